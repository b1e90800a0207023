/** The public keys of trusted issuers: registered, or fetched and kept for a while. */
import type { TrustedIssuer } from '../domain/model.ts';
import { type PublicJwk, readJwks } from '../domain/public-jwk.ts';
import type { Egress } from '../ports/egress.ts';

/** How long fetched keys are believed: a key the issuer withdrew works on for so long at most. */
const keptMs = 300_000;
/** Anybody can send a token with a key id nobody knows: for that they are fetched again this often at most. */
const unknownKeyPauseMs = 30_000;
/** After a fetch that failed: soon enough for whoever waits, seldom enough for an issuer in trouble. */
const failedPauseMs = 2_000;

interface Held {
  /** Of which row and version: a change of an issuer forgets what was fetched for it. */
  version: number;
  at: number;
  failed: boolean;
  /** Under way or done: whoever asks meanwhile waits for the same answer. */
  keys: Promise<PublicJwk[]>;
}

const objectIn = (document: unknown): ReadonlyMap<string, unknown> =>
  new Map(typeof document === 'object' && document !== null ? Object.entries(document) : []);

export class IssuerKeys {
  readonly #egress: Egress;
  readonly #held = new Map<string, Held>();

  constructor(egress: Egress) {
    this.#egress = egress;
  }

  /**
   * @param now milliseconds since the epoch
   * @param again the keys held do not have the one that is needed
   * @throws Error in words fit for the audit log
   */
  async of(issuer: TrustedIssuer, now: number, again: boolean): Promise<PublicJwk[]> {
    if (issuer.keys.from === 'jwks') return checked(issuer.keys.jwks);
    const held = this.#held.get(issuer.id);
    if (held?.version === issuer.version) {
      const pause = held.failed ? failedPauseMs : again ? unknownKeyPauseMs : keptMs;
      if (now - held.at < pause) return held.keys;
    }
    const fetching: Held = { version: issuer.version, at: now, failed: false, keys: this.#fetch(issuer) };
    fetching.keys.catch(() => {
      fetching.failed = true;
    });
    // As many entries as there are issuers: only registered ones are ever asked for.
    this.#held.set(issuer.id, fetching);
    return fetching.keys;
  }

  async #fetch({ issuer, keys }: TrustedIssuer): Promise<PublicJwk[]> {
    if (keys.from === 'jwks') return checked(keys.jwks);
    const reach = { allowPrivateNetwork: keys.allow_private_network === true };
    if (keys.from === 'jwks_uri') return checked(await this.#egress.getJson(keys.jwks_uri, reach));
    // OpenID Connect Discovery 1.0 section 4: the path goes behind the issuer.
    const metadata = objectIn(
      await this.#egress.getJson(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, reach),
    );
    // Section 4.3: or one issuer could speak for another.
    if (metadata.get('issuer') !== issuer) throw new Error('the metadata found there is of another issuer');
    const uri = metadata.get('jwks_uri');
    const url = typeof uri === 'string' && uri.length <= 2000 ? URL.parse(uri) : null;
    const clear = url?.protocol === 'http:' && reach.allowPrivateNetwork;
    if (!url || !(url.protocol === 'https:' || clear))
      throw new Error('the metadata names no jwks_uri that may be used');
    return checked(await this.#egress.getJson(url.href, reach));
  }
}

const checked = (document: unknown): PublicJwk[] => {
  const read = readJwks(document);
  if (!read.ok) throw new Error(`the keys of the issuer were refused: ${read.why}`);
  return read.keys;
};
