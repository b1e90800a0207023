import { Refused } from '../domain/refusals.ts';

/** Input that a provider refused: each problem names its field. */
export class InvalidInput extends Refused {
  readonly problems: string[];
  constructor(problems: string[]) {
    super('invalid_request', problems[0] ?? 'the request is not valid');
    this.problems = problems;
  }
}
