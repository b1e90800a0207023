/**
 * A secret in memory, wrapped so that it can be handed around without being shown.
 *
 * The text stands in a private field: no property to list, clone, spread or serialise. Every way JavaScript and Node
 * have of turning an object into text or a number gives {@link redacted}; the only way in is {@link SecretText.reveal},
 * so a search for `.reveal(` finds every place where a secret comes out.
 *
 * What this does not do: wipe memory. JavaScript strings cannot be overwritten, so the text lives until it is collected,
 * and a heap snapshot or an attached debugger sees it.
 */
export const redacted = '[redacted]';

export class SecretText {
  readonly #value: string;

  /** @param value the secret as text; may be empty, is kept as it is */
  constructor(value: string) {
    this.#value = value;
    // Without this, `secret.toString = …` on one object would change how that object prints.
    Object.freeze(this);
  }

  /** @returns the secret itself: for the one statement that needs it, never for a variable that outlives it */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return redacted;
  }

  toJSON(): string {
    return redacted;
  }

  /** Template strings, `+`, `String()`, `Number()` (gives NaN), `==`. */
  [Symbol.toPrimitive](): string {
    return redacted;
  }

  /** `console.log`, `util.inspect`, `util.format`. The symbol is looked up by name so that the domain needs no import. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return redacted;
  }
}
