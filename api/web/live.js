// The feed as it grows: Server-Sent Events, by tickets, because a browser's EventSource cannot set headers.

import { command, patience } from "./http.js";

/**
 * Listens from `position` on. `item`, `removed`, `followed`, `reset` and `at` hear what the service tells; the
 * last of a position that is reached. Comes back by itself where it was cut off.
 */
export function live(position, { item, removed, followed, reset, at }) {
  const retry = patience();
  let source = null;
  let timer = 0;
  let closed = false;
  let last = position;

  async function connect() {
    try {
      const { data } = await command("POST", "/api/feed/ticket");
      if (closed) return;
      source = new EventSource(`/api/feed/stream?ticket=${encodeURIComponent(data.ticket)}&last_event_id=${last}`);
    } catch {
      again();
      return;
    }
    source.onopen = () => retry.reset();
    // A ticket opens one stream only for a minute, so that coming back needs another.
    source.onerror = again;
    source.onmessage = heard(item);
    source.addEventListener("removed", heard(removed));
    source.addEventListener("followed", heard(followed));
    source.addEventListener("reset", heard(reset));
  }

  function heard(listener) {
    return (event) => {
      last = Math.max(last, Number(event.lastEventId) || 0);
      listener(JSON.parse(event.data));
      at(last);
    };
  }

  function again() {
    source?.close();
    source = null;
    if (!closed) timer = setTimeout(connect, retry.wait());
  }

  connect();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      source?.close();
    },
  };
}
