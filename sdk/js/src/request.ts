/** What is read often of a request. Each call crosses into the host, so nothing here is read before it is asked for. */
import type { Request, Response } from "pointsman:plugin/request-data@0.1.0";
import type { Message } from "pointsman:plugin/types@0.1.0";

/** All messages, first to last. Each is fetched when the loop comes to it. */
export function* messages(request: Request): Generator<Message> {
  const count = request.messageCount();
  for (let index = 0; index < count; index++) {
    const message = request.message(index);
    if (message !== undefined) yield message;
  }
}

/** The value at an RFC 6901 pointer into a request's or an answer's body: `/user`, `/choices/0/finish_reason`. */
export function jsonAt(body: Request | Response, pointer: string): unknown {
  const text = body.json(pointer);
  return text === undefined ? undefined : JSON.parse(text);
}
