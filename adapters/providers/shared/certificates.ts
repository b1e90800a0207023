/** Certificates in settings: PEM as it comes; kept without line ends, as settings are recorded in single lines. */
import { hash, X509Certificate } from 'node:crypto';
import { z } from 'zod';

const pem = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g;

const isCertificate = (der: string): boolean => {
  try {
    return new X509Certificate(Buffer.from(der, 'base64')).raw.length > 0;
  } catch {
    return false;
  }
};

const mostCharacters = 40_000;
/** More than fit: what was taken as PEM is taken again as it is kept. */
const mostCertificates = 200;

/** Authorities: PEM, or what is kept of it, the base64 of each certificate. */
export const authorities = z.union([
  z
    .string()
    .max(mostCharacters)
    .transform((text) => [...text.matchAll(pem)].map(([, body = '']) => body.replace(/\s+/g, '')))
    .refine((found) => found.length > 0 && found.every(isCertificate), 'one or more certificates in PEM'),
  z
    .array(
      z
        .string()
        .regex(/^[A-Za-z0-9+/=]+$/)
        .refine(isCertificate, 'not a certificate'),
    )
    .min(1)
    .max(mostCertificates),
]);

/** As TLS libraries take one. */
export const asPem = (der: string): string =>
  `-----BEGIN CERTIFICATE-----\n${der.replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`;

/** Whose word is taken for who a server is, as part of where a secret goes: another authority could vouch for anybody. */
export const trustIn = (ca: readonly string[] | undefined): string =>
  ca === undefined ? '' : ` by authorities ${hash('sha256', [...ca].sort().join(' '), 'base64url').slice(0, 16)}`;
