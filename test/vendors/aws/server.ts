/**
 * AWS for tests: STS, IAM and KMS on one address, told apart by the credential scope of the signature. Every request must
 * be signed (sigv4.ts) and allowed (policy.ts); a session is narrowed and denied as AWS would.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { startTroubledServer, type TroubledServer } from '../../support/troubled-http.ts';
import { Account, type Session } from './account.ts';
import { AwsError, answerJson, answerXml, refuseJson, refuseXml } from './answers.ts';
import { type KmsOperation, kmsOperations } from './kms.ts';
import { type SignatureProblem, verify } from './sigv4.ts';
import { iamOperations, stsOperations } from './sts-iam.ts';

const namespaces = {
  sts: 'https://sts.amazonaws.com/doc/2011-06-15/',
  iam: 'https://iam.amazonaws.com/doc/2010-05-08/',
};
const versions = { sts: '2011-06-15', iam: '2010-05-08' };

/** How the query services and the JSON services say the same. */
const problems: Record<SignatureProblem, [query: string, json: string, status: number]> = {
  missing: ['MissingAuthenticationToken', 'MissingAuthenticationTokenException', 403],
  incomplete: ['IncompleteSignature', 'IncompleteSignatureException', 400],
  'unknown-key': ['InvalidClientTokenId', 'UnrecognizedClientException', 403],
  mismatch: ['SignatureDoesNotMatch', 'InvalidSignatureException', 403],
  skewed: ['RequestExpired', 'InvalidSignatureException', 400],
};
const jsonSpelling: Record<string, string> = {
  AccessDenied: 'AccessDeniedException',
  ExpiredToken: 'ExpiredTokenException',
  InvalidClientTokenId: 'UnrecognizedClientException',
};

export interface AwsServer {
  url: string;
  account: Account;
  trouble: TroubledServer['trouble'] & {
    /** So many KMS requests are answered with a ThrottlingException. */
    throttled(times: number): Promise<void>;
    /** KMS works with a key that is not the one it was asked for. */
    wrongKey(): Promise<void>;
  };
  /** Every operation that was let in, e.g. `sts:AssumeRole`. */
  calls: string[];
  /** Sessions of roles that could still do something to this resource. */
  alive(action: string, resource: string): Session[];
  close(): Promise<void>;
}

const bodyOf = async (req: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
};

export const startAws = async (): Promise<AwsServer> => {
  const account = new Account('111122223333', 'eu-west-1');
  const calls: string[] = [];
  let throttles = 0;
  let swapsKeys = false;

  const kms = (target: string): KmsOperation => {
    const operation = Object.hasOwn(kmsOperations, target) ? kmsOperations[target] : undefined;
    if (!operation) throw new AwsError('UnknownOperationException', 400, '');
    return operation;
  };

  /** The answer as another key would give it: what is decrypted is not what was encrypted. */
  const ofWrongKey: KmsOperation = (_account, _caller, body) => {
    const wrong = account.addKey();
    account.keys.delete(wrong.id);
    return body['CiphertextBlob'] === undefined
      ? { CiphertextBlob: Buffer.alloc(80, 1).toString('base64'), KeyId: wrong.arn }
      : { Plaintext: Buffer.alloc(32, 1).toString('base64'), KeyId: wrong.arn };
  };

  const handle = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const body = await bodyOf(req);
    const signed = verify(req, body, Date.now(), (id) => account.secretOf(id));
    const isJson = req.headers['x-amz-target'] !== undefined;
    const service = signed.ok ? signed.service : isJson ? 'kms' : 'sts';
    const refuse = (error: unknown): void => {
      if (!(error instanceof AwsError)) throw error;
      if (isJson)
        refuseJson(
          res,
          new AwsError(
            jsonSpelling[error.code] ?? error.code,
            error.status === 403 ? 400 : error.status,
            error.message,
          ),
        );
      else refuseXml(res, namespaces[service === 'iam' ? 'iam' : 'sts'], error);
    };
    try {
      if (!signed.ok) {
        const [query, json, status] = problems[signed.problem];
        throw new AwsError(isJson ? json : query, status, 'The request is not signed as it must be.');
      }
      const caller = account.principal(signed.accessKeyId, signed.sessionToken);
      // IAM is global and signed for us-east-1; the rest is regional.
      if (signed.region !== (service === 'iam' ? 'us-east-1' : account.region)) {
        throw new AwsError('SignatureDoesNotMatch', 403, 'Credential should be scoped to a valid region.');
      }
      if (isJson) {
        const [, target] = /^TrentService\.(\w+)$/.exec(String(req.headers['x-amz-target'])) ?? [];
        if (service !== 'kms' || req.headers['content-type'] !== 'application/x-amz-json-1.1' || target === undefined) {
          throw new AwsError('UnknownOperationException', 400, '');
        }
        if (throttles > 0) {
          throttles -= 1;
          throw new AwsError('ThrottlingException', 400, 'Rate exceeded');
        }
        calls.push(`kms:${target}`);
        const operation = swapsKeys ? ofWrongKey : kms(target);
        return answerJson(res, operation(account, caller, JSON.parse(body.toString('utf8'))));
      }
      if (service !== 'sts' && service !== 'iam') throw new AwsError('InvalidAction', 400, 'Could not find operation');
      const form = new URLSearchParams(body.toString('utf8'));
      const action = form.get('Action') ?? '';
      const operations = service === 'sts' ? stsOperations : iamOperations;
      const operation = Object.hasOwn(operations, action) ? operations[action] : undefined;
      if (!operation || req.method !== 'POST' || form.get('Version') !== versions[service]) {
        throw new AwsError('InvalidAction', 400, `Could not find operation ${action}`);
      }
      calls.push(`${service}:${action}`);
      answerXml(res, namespaces[service], action, operation(account, caller, form));
    } catch (error) {
      refuse(error);
    }
  };

  const server = await startTroubledServer((req, res) => void handle(req, res).catch(() => res.writeHead(500).end()));
  return {
    url: server.url,
    account,
    calls,
    trouble: {
      ...server.trouble,
      throttled: async (times) => {
        throttles = times;
      },
      wrongKey: async () => {
        swapsKeys = true;
      },
      well: async () => {
        throttles = 0;
        swapsKeys = false;
        await server.trouble.well();
      },
    },
    alive: (action, resource) =>
      [...account.sessions.values()].filter(
        (session) => session.expiresAt > Date.now() && account.may(account.sessionPrincipal(session), action, resource),
      ),
    close: server.close,
  };
};
