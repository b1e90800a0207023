/** Certificates in settings: PEM as it comes; kept without line ends, as settings are recorded in single lines. */
import { X509Certificate } from 'node:crypto';
import { z } from 'zod';

const pem = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g;

const isCertificate = (der: string): boolean => {
  try {
    return new X509Certificate(Buffer.from(der, 'base64')).raw.length > 0;
  } catch {
    return false;
  }
};

/** Authorities: PEM, or what is kept of it, the base64 of each certificate. */
export const authorities = z.union([
  z
    .string()
    .max(40_000)
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
    .max(20),
]);

/** As TLS libraries take one. */
export const asPem = (der: string): string =>
  `-----BEGIN CERTIFICATE-----\n${der.replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`;
