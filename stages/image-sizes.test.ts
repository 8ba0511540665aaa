import { expect, it } from 'vitest';
import { imageSizes } from './image-sizes.ts';

it.each([
  [null, null, "images in the sizes that the model's preprocessor gives them"],
  [1024, 589_824, 'images of 1024 to 589824 pixels'],
  [null, 589_824, "images of the model's fewest to 589824 pixels"],
  [1024, null, "images of 1024 to the model's most pixels"],
])('tells budgets of %s and %s', (minPixels, maxPixels, text) => {
  expect(imageSizes({ minPixels, maxPixels })).toBe(text);
});
