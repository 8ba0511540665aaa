import { describe, expect, it } from 'vitest';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { emptyOutputs } from './empty-outputs.ts';
import type { DatasetOptions } from './options.ts';
import { datasetStage } from './stage.ts';

const of = (options: Partial<DatasetOptions>) => emptyOutputs(options as DatasetOptions);
const namesOf = (options: Partial<DatasetOptions>) => Object.keys(of(options)).sort();

describe('emptyOutputs()', () => {
  it('knows what a source fills', () => {
    expect(namesOf({ source: 'procedural-birds' })).toEqual(['chats', 'triplets']);
    expect(namesOf({ source: 'image-folder' })).toEqual(['chats', 'triplets']);
    expect(namesOf({ source: 'sharegpt' })).toEqual(['rl', 'seen', 'sft', 'triplets', 'unseen']);
    expect(namesOf({ source: 'easyr1' })).toEqual(['chats', 'rl', 'seen', 'sft', 'unseen']);
    expect(namesOf({ source: 'fine-r1-eval' })).toEqual(['chats', 'rl', 'sft', 'triplets']);
    expect(of({ source: 'easyr1' }).seen).toBe('the source easyr1 fills triplets only');
  });

  it('knows counts that leave nothing', () => {
    const source = 'cub-200-2011';
    expect(of({ source, sftShots: 0 }).sft).toBe('sftShots is 0');
    expect(of({ source, rlShots: 0 }).rl).toBe('rlShots is 0');
    expect(of({ source, testImages: 0 })).toMatchObject({ seen: 'testImages is 0', unseen: 'testImages is 0' });
    expect(of({ source, unseenClasses: 0 }).unseen).toBe('unseenClasses is 0');
    expect(namesOf({ source, seenFraction: 1 })).toEqual(['chats', 'triplets', 'unseen']);
    expect(namesOf({ source, sftShots: 1, testImages: 5 })).toEqual(['chats', 'triplets']);
  });

  it('leaves every source an output', () => {
    const sources = loadStageSchema(import.meta.url).properties['source']!['enum'] as DatasetOptions['source'][];
    for (const source of sources) {
      const empty = namesOf({ source });
      expect(empty.length).toBeLessThan(Object.keys(datasetStage.outputs).length);
      for (const name of empty) expect(datasetStage.outputs).toHaveProperty(name);
    }
  });
});
