import { describe, expect, it } from 'vitest';
import { STAGE_KINDS } from '../config/testing/stage-kinds.ts';
import { drawGraph } from './draw-graph.ts';
import { planPipeline } from './plan.ts';
import type { Pipeline, PipelineStage } from './types.ts';

const [SOURCE] = STAGE_KINDS;
const position = { file: 'p.yaml', line: 1, col: 1 };

function stage(name: string, group: string, takes: readonly string[], needs: readonly string[] = []): PipelineStage {
  return {
    name,
    group,
    definition: SOURCE,
    options: {},
    inputs: takes.map((from, i) => ({
      pointer: `/from/${i}`,
      source: { kind: 'artifact-ref', stage: from, output: 'train', type: 'image-data' },
      position,
    })),
    needs: needs.map((each) => ({ stage: each, position })),
    expect: [],
    position,
    positionOf: () => position,
  };
}

const pipeline: Pipeline = {
  file: 'p.yaml',
  folder: '/',
  name: 'a "quoted" name',
  seed: 1,
  vars: {},
  env: [],
  outputs: [],
  stages: [
    stage('birds', 'birds', []),
    stage('cut.x', 'cut', ['birds']),
    stage('cut.y', 'cut', ['birds']),
    stage('end', 'end', ['cut.x', 'cut.y'], ['birds']),
  ],
};

describe('drawGraph()', () => {
  const plan = planPipeline(pipeline);

  it('shows the cells of a matrix as one, or each', () => {
    expect(drawGraph(plan, 'text')).toEqual([
      'birds          source',
      'cut (2 cells)  source  <- birds.train',
      'end            source  <- after birds, cut.train',
    ]);
    expect(drawGraph(plan, 'text', true)).toContain('end    source  <- after birds, cut.x.train, cut.y.train');
  });

  it('writes Mermaid and Graphviz, with names quoted', () => {
    expect(drawGraph(plan, 'mermaid')).toEqual([
      'flowchart LR',
      '  s0["birds<br/>source"]',
      '  s1["cut (2 cells)<br/>source"]',
      '  s2["end<br/>source"]',
      '  s0 -->|"train"| s1',
      '  s0 -.-> s2',
      '  s1 -->|"train"| s2',
    ]);
    const dot = drawGraph(plan, 'dot');
    expect(dot[0]).toBe('digraph "a \\"quoted\\" name" {');
    expect(dot).toContain('  "birds" -> "end" [style=dashed];');
    expect(dot).toContain('  "cut" -> "end" [label="train"];');
  });
});
