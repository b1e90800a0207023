/** Errors as AWS spells them, and the two protocols the services here speak: query with XML, and JSON 1.1. */
import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';

export class AwsError extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, status: number, message: string) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export type XmlValue = string | number | readonly XmlValue[] | { readonly [name: string]: XmlValue };

const escaped = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const xml = (value: XmlValue): string => {
  if (typeof value !== 'object') return escaped(String(value));
  if (Array.isArray(value)) return value.map((one) => `<member>${xml(one)}</member>`).join('');
  return Object.entries(value)
    .map(([name, inner]) => `<${name}>${xml(inner)}</${name}>`)
    .join('');
};

export const answerXml = (res: ServerResponse, namespace: string, action: string, result: XmlValue): void => {
  const id = `<ResponseMetadata><RequestId>${randomUUID()}</RequestId></ResponseMetadata>`;
  const inner = `<${action}Result>${xml(result)}</${action}Result>`;
  res
    .writeHead(200, { 'Content-Type': 'text/xml' })
    .end(`<${action}Response xmlns="${namespace}">${inner}${id}</${action}Response>`);
};

export const refuseXml = (res: ServerResponse, namespace: string, error: AwsError): void => {
  const type = error.status < 500 ? 'Sender' : 'Receiver';
  const inner = `<Error><Type>${type}</Type><Code>${error.code}</Code><Message>${escaped(error.message)}</Message></Error>`;
  res
    .writeHead(error.status, { 'Content-Type': 'text/xml' })
    .end(`<ErrorResponse xmlns="${namespace}">${inner}<RequestId>${randomUUID()}</RequestId></ErrorResponse>`);
};

export const answerJson = (res: ServerResponse, body: object): void => {
  res
    .writeHead(200, { 'Content-Type': 'application/x-amz-json-1.1', 'x-amzn-RequestId': randomUUID() })
    .end(JSON.stringify(body));
};

export const refuseJson = (res: ServerResponse, error: AwsError): void => {
  res
    .writeHead(error.status, { 'Content-Type': 'application/x-amz-json-1.1', 'x-amzn-RequestId': randomUUID() })
    .end(JSON.stringify({ __type: error.code, message: error.message }));
};
