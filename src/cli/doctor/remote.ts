/** Checks of the broker over HTTP: there, ready, agreeing about the time, and willing to take the token. */
import { type Answer, askOpenly, connectApi, isOpenToEavesdroppers } from '../api.ts';
import type { Context } from '../context.ts';
import { Failure } from '../failure.ts';
import type { Fields } from '../fields.ts';
import { shownTime } from '../screen.ts';
import { type Finding, finding } from './finding.ts';

/**
 * The Date header counts whole seconds (RFC 9110 section 5.6.7), and the way there takes a moment. Past the first bound
 * people misread logs; past the second, signed client assertions begin to be refused.
 */
const skewWarningSeconds = 5;
const skewFailureSeconds = 60;

const checkClock = (answer: Answer, before: number, after: number): Finding => {
  const date = Date.parse(answer.headers.get('date') ?? '');
  if (Number.isNaN(date)) return finding('clock', 'skipped', 'the broker does not say what time it is');
  // Somewhere within the second that begins with the header's time.
  const skewSeconds = Math.round((date + 500 - (before + after) / 2) / 1000);
  if (skewSeconds === 0) return finding('clock', 'ok', 'the broker and this machine agree');
  const text = `the broker's clock is ${Math.abs(skewSeconds)} s ${skewSeconds < 0 ? 'behind' : 'ahead of'} this one`;
  if (Math.abs(skewSeconds) > skewFailureSeconds) return finding('clock', 'failed', `${text}; set both by NTP`);
  if (Math.abs(skewSeconds) > skewWarningSeconds) return finding('clock', 'warning', text);
  return finding('clock', 'ok', text);
};

const checkReady = ({ status, fields }: Answer): Finding => {
  if (status === 200) return finding('ready', 'ok', 'unsealed, migrated, ledger writable');
  const broken = fields.items('checks').filter((check) => !check.flag('ok'));
  const why = broken.map((check) => `${check.text('name')}: ${check.text('why')}`).join('; ');
  return finding('ready', 'failed', why || `HTTP ${status}`);
};

const checkToken = async (context: Context): Promise<Finding> => {
  const { env } = context;
  if (!env['WARDER_TOKEN'] && !env['WARDER_TOKEN_FILE']) {
    return finding('token', 'skipped', 'WARDER_TOKEN is not set');
  }
  try {
    await connectApi(context).call('GET', 'agents', { query: { limit: 1 } });
    return finding('token', 'ok', 'accepted');
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    // A role that may not list agents is a token all the same.
    if (error.lines.includes('code: forbidden'))
      return finding('token', 'ok', 'accepted, for other tasks than listing');
    return finding('token', 'failed', error.lines[0] ?? 'refused');
  }
};

/** Longer than a week without one is longer than most would like to lose. */
const backupWarningDays = 7;
const dayMs = 86_400_000;

/** When the newest backup was made, as the audit log says; where it went nobody here knows. */
const checkBackup = async (context: Context): Promise<Finding> => {
  const { env } = context;
  if (!env['WARDER_TOKEN'] && !env['WARDER_TOKEN_FILE']) return finding('backup', 'skipped', 'WARDER_TOKEN is not set');
  try {
    const newestOf = async (type: string): Promise<Fields[]> =>
      (await connectApi(context).call('GET', 'audit', { query: { type, limit: 100 } })).fields.items('items');
    const idOf = (entry: Fields): string => entry.within('data').text('backup');
    // One that broke off on its way was made, too.
    const failed = new Set((await newestOf('backup.failed')).map(idOf));
    const newest = (await newestOf('backup.created')).find((entry) => !failed.has(idOf(entry)));
    if (!newest) return finding('backup', 'skipped', 'none was made yet; run: warder backup -o FILE');
    const days = (context.now() - Date.parse(newest.text('time'))) / dayMs;
    const made = `the newest backup is of ${shownTime(newest.text('time'))}`;
    return days > backupWarningDays
      ? finding('backup', 'warning', `${made}, ${Math.floor(days)} days ago; run: warder backup -o FILE`)
      : finding('backup', 'ok', made);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return finding('backup', 'skipped', 'this token may not read the audit log');
  }
};

export const checkRemotely = async (context: Context, url: string): Promise<Finding[]> => {
  const before = context.now();
  let alive: Answer;
  try {
    alive = await askOpenly(url, '/healthz');
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return [finding('broker', 'unreachable', error.lines[0] ?? url)];
  }
  const after = context.now();
  return [
    alive.status === 200
      ? finding('broker', 'ok', `${url} answers`)
      : finding('broker', 'failed', `${url}/healthz answers HTTP ${alive.status}; is it a Warder?`),
    isOpenToEavesdroppers(url)
      ? finding('encryption', 'warning', 'WARDER_URL is plain http to another machine: tokens can be read on the way')
      : finding('encryption', 'ok', url.startsWith('https:') ? 'TLS' : 'stays on this machine'),
    checkReady(await askOpenly(url, '/readyz')),
    checkClock(alive, before, after),
    await checkToken(context),
    await checkBackup(context),
  ];
};
