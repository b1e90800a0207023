/** An AWS with a role to assume, and an access key for Warder that may do what docs/providers/aws-sts.md says. */
import { DescribeKeyCommand, EncryptCommand, KMSClient } from '@aws-sdk/client-kms';
import type { Credential } from '../../conformance/provider.ts';
import type { Key, Role, User } from '../../vendors/aws/account.ts';
import { type AwsServer, startAws } from '../../vendors/aws/server.ts';

export interface AwsRig {
  aws: AwsServer;
  key: Key;
  role: Role;
  user: User;
  secret: { access_key_id: string; secret_access_key: string };
  settings: Record<string, unknown> & { scopes: Record<string, object> };
}

/** The least that Warder's access key needs. */
export const warderPolicy = (roleArn: string, more: string[] = []) => ({
  Version: '2012-10-17',
  Statement: [
    { Effect: 'Allow', Action: ['sts:AssumeRole', ...more], Resource: roleArn },
    { Effect: 'Allow', Action: ['iam:GetRolePolicy', 'iam:PutRolePolicy'], Resource: roleArn },
  ],
});

export const externalId = 'warder-7f3a';

export const kmsScopes = (keyArn: string) => ({
  read: { statements: [{ actions: ['kms:DescribeKey'], resources: [keyArn] }] },
  write: { statements: [{ actions: ['kms:Encrypt'], resources: [keyArn] }] },
});

export const startAwsRig = async (): Promise<AwsRig> => {
  const aws = await startAws();
  const { account } = aws;
  const key = account.addKey();
  const roleArn = `arn:aws:iam::${account.id}:role/agents/deployer`;
  const user = account.addUser('warder', warderPolicy(roleArn));
  const role = account.addRole(
    'agents/deployer',
    {
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Allow',
          Principal: { AWS: user.arn },
          Action: ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity'],
          Condition: { StringEquals: { 'sts:ExternalId': externalId } },
        },
      ],
    },
    { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 'kms:*', Resource: '*' }] },
    43_200,
  );
  return {
    aws,
    key,
    role,
    user,
    secret: { access_key_id: user.accessKeyId, secret_access_key: user.secretAccessKey },
    settings: {
      role_arn: role.arn,
      region: account.region,
      external_id: externalId,
      scopes: kmsScopes(key.arn),
      endpoints: { sts: aws.url, iam: aws.url },
      allow_private_network: true,
    },
  };
};

/** What an agent does with the credential: the SDK against the system itself. */
export const useAws = async (
  credential: Credential,
  scope: 'read' | 'write',
  at: { keyArn: string; endpoint: string | undefined },
): Promise<boolean> => {
  const client = new KMSClient({
    region: String(credential['region']),
    ...(at.endpoint === undefined ? {} : { endpoint: at.endpoint }),
    credentials: {
      accessKeyId: String(credential['access_key_id']),
      secretAccessKey: String(credential['secret_access_key']),
      sessionToken: String(credential['session_token']),
    },
    maxAttempts: 1,
  });
  const KeyId = at.keyArn;
  try {
    if (scope === 'read') await client.send(new DescribeKeyCommand({ KeyId }));
    else await client.send(new EncryptCommand({ KeyId, Plaintext: Buffer.from('x') }));
    return true;
  } catch (error) {
    if (error instanceof Error && /^(?:AccessDenied|ExpiredToken)/.test(error.name)) return false;
    throw error;
  } finally {
    client.destroy();
  }
};
