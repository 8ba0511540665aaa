/** `node --import fr1/register --test stage.test.ts`: lets Node run a plugin's TypeScript as fr1 does. */
import 'jiti/register';
