/** What Vault says when it does not do what it was asked. */
export class VaultError extends Error {
  readonly status: number;
  readonly errors: string[];

  constructor(status: number, ...errors: string[]) {
    super(errors.join('; '));
    this.status = status;
    this.errors = errors;
  }
}
export const denied = (...more: string[]): VaultError =>
  new VaultError(
    403,
    `${1 + more.length} error occurred:\n\t* permission denied\n${more.map((one) => `\t* ${one}\n`)}\n`,
  );
export const notFound = (): VaultError => new VaultError(404);
