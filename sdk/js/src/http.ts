/**
 * Requests to services that the owner allows (`[plugins.NAME.http]`). Grant: `http`. The plugin waits, and its deadline runs; what is
 * refused is thrown, and `refusal` says why: `denied`, `busy`, `timeout`, `too-large`, `unreachable`, `unavailable`.
 */
import { type Response, send as raw } from "pointsman:plugin/http@0.1.0";
import { hostError } from "./errors.ts";

export type { Response } from "pointsman:plugin/http@0.1.0";

declare class TextEncoder {
  encode(text: string): Uint8Array;
}
declare class TextDecoder {
  decode(bytes: Uint8Array): string;
}

/** What is sent besides the address. */
export interface Options {
  /** GET (the default), HEAD, POST, PUT, PATCH or DELETE. */
  method?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  /** No longer than this; the owner's bound holds as well. */
  timeoutMs?: number;
}

/** Sends a request and waits for all of its answer. */
export function send(url: string, { method = "GET", headers = {}, body = "", timeoutMs }: Options = {}): Response {
  return raw(method, url, Object.entries(headers), typeof body === "string" ? new TextEncoder().encode(body) : body, timeoutMs);
}

/** An answer's body as text. */
export function text(response: Response): string {
  return new TextDecoder().decode(response.body);
}

/** Why a call was refused, for whoever catches what it threw. */
export function refusal(thrown: unknown): string | undefined {
  return hostError(thrown);
}
