/**
 * `aws-sts` through the conformance suite: the SDK, and agents with the SDK, against a server that speaks STS, IAM and KMS
 * and decides by policy as AWS does (test/vendors/aws). The same runs against a real endpoint with
 *
 *     WARDER_TEST_AWS_ENDPOINT   one address for STS, IAM and KMS, e.g. of another implementation; `aws`: AWS itself
 *     WARDER_TEST_AWS_ROLE_ARN   a role for tests alone, which may do anything to the key
 *     WARDER_TEST_AWS_KMS_KEY    ARN of a symmetric key
 *     WARDER_TEST_AWS_EXTERNAL_ID, where the role asks for one
 *     AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY   as docs/providers/aws-sts.md says
 */
import { openNetwork } from '../../../adapters/network.ts';
import { openAwsStsProvider } from '../../../adapters/providers/aws-sts.ts';
import { type Credential, type ProviderUnderTest, providerConformance } from '../../conformance/provider.ts';
import { kmsScopes, startAwsRig, useAws } from './aws-rig.ts';

const endpoint = process.env['WARDER_TEST_AWS_ENDPOINT'];

const setUp = async (more: object = {}): Promise<ProviderUnderTest> => {
  const { aws, key, secret, settings } = await startAwsRig();
  const network = openNetwork();
  // A session is known by its name: a try that was repeated made two of one name, and they die together.
  const names = (sessions: { name: string }[]): string[] => [...new Set(sessions.map(({ name }) => name))];
  return {
    provider: openAwsStsProvider(network),
    settings: { ...settings, ...more },
    secret,
    use: (credential, scope) => useAws(credential, scope, { keyArn: key.arn, endpoint: aws.url }),
    upstream: {
      artefacts: async () => names(aws.alive('kms:DescribeKey', key.arn)),
      made: async () => names([...aws.account.sessions.values()]),
      elapse: async () => {
        for (const session of aws.account.sessions.values()) session.expiresAt = 0;
      },
      trouble: aws.trouble,
    },
    close: async () => {
      await network.close();
      await aws.close();
    },
  };
};

const given = (name: string): string => {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
};

/** What is upstream cannot be listed there: what was issued is tried. */
const setUpReal = async (): Promise<ProviderUnderTest> => {
  const network = openNetwork();
  const [roleArn, keyArn] = [given('WARDER_TEST_AWS_ROLE_ARN'), given('WARDER_TEST_AWS_KMS_KEY')];
  const address = endpoint === 'aws' ? undefined : endpoint;
  const externalId = process.env['WARDER_TEST_AWS_EXTERNAL_ID'];
  const seen = new Map<string, Credential>();
  const use = (credential: Credential, scope: 'read' | 'write'): Promise<boolean> => {
    seen.set(String(credential['access_key_id']), credential);
    return useAws(credential, scope, { keyArn, endpoint: address });
  };
  const none = async (): Promise<void> => undefined;
  return {
    provider: openAwsStsProvider(network),
    settings: {
      role_arn: roleArn,
      region: keyArn.split(':')[3] ?? '',
      ...(externalId === undefined ? {} : { external_id: externalId }),
      scopes: kmsScopes(keyArn),
      ...(address === undefined ? {} : { endpoints: { sts: address, iam: address }, allow_private_network: true }),
    },
    secret: {
      access_key_id: given('AWS_ACCESS_KEY_ID'),
      secret_access_key: given('AWS_SECRET_ACCESS_KEY'),
    },
    use,
    upstream: {
      artefacts: async () => {
        for (const [id, credential] of seen) if (!(await use(credential, 'read'))) seen.delete(id);
        return [...seen.keys()];
      },
      trouble: { down: none, slow: none, nonsense: none, halfDone: none, late: none, hangs: none, well: none },
    },
    close: () => network.close(),
  };
};

if (endpoint === undefined) {
  providerConformance('aws-sts', setUp, { creates: true });
  // Where Warder may not write to the role.
  providerConformance('aws-sts without revocation', () => setUp({ revocation: 'none' }), {
    creates: true,
    revocation: 'life',
    unheard: 'lives_on',
  });
} else {
  // What needs trouble, or to see what is upstream, is left out: a real service has no switch for it.
  providerConformance(`aws-sts at ${endpoint}`, setUpReal, { creates: false });
}
