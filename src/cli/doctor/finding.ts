/** What one check of `doctor` found. */
export interface Finding {
  check: string;
  /** `unreachable`: the broker gave no answer, which has an exit code of its own. */
  result: 'ok' | 'warning' | 'failed' | 'unreachable' | 'skipped';
  /** One sentence: what was seen, and what to do if it is not ok. */
  detail: string;
}

export const finding = (check: string, result: Finding['result'], detail: string): Finding => ({
  check,
  result,
  detail,
});
