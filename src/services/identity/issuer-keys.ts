/** The public keys of trusted issuers: registered, or fetched and kept for a while. */
import type { TrustedIssuer } from '../../domain/model.ts';
import { type PublicJwk, readJwks } from '../../domain/public-jwk.ts';
import type { Egress } from '../../ports/egress.ts';
import { KeptFetch } from './kept-fetch.ts';

const objectIn = (document: unknown): ReadonlyMap<string, unknown> =>
  new Map(typeof document === 'object' && document !== null ? Object.entries(document) : []);

export class IssuerKeys {
  readonly #egress: Egress;
  /** As many entries as there are issuers. `version`: a change of an issuer forgets what was fetched for it. */
  readonly #held = new Map<string, { version: number; keys: KeptFetch<PublicJwk[]> }>();

  constructor(egress: Egress) {
    this.#egress = egress;
  }

  /**
   * @param now milliseconds since the epoch
   * @param again the keys held do not have the one that is needed
   * @throws Error in words fit for the audit log
   */
  async of(issuer: TrustedIssuer, now: number, again: boolean): Promise<PublicJwk[]> {
    let held = this.#held.get(issuer.id);
    if (held?.version !== issuer.version) {
      held = { version: issuer.version, keys: new KeptFetch(() => this.#fetch(issuer)) };
      this.#held.set(issuer.id, held);
    }
    return held.keys.get(now, again);
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
