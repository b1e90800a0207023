/**
 * Warder's own requests to addresses an operator wrote down. The address judged is the one really connected to;
 * redirects are not followed.
 */
export interface Egress {
  /**
   * GETs a JSON document of at most 256 KiB within five seconds.
   * @throws Error with a message fit for a log, without headers or body
   */
  getJson(url: string, options: { allowPrivateNetwork: boolean }): Promise<unknown>;
}
