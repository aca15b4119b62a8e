// Keeps the page and its files, so that it opens without a network. The name changes with the files.
// Several pages may come from one server; each keeps, and forgets, what lies below its own address.
const OWN = `headstart ${self.registration.scope} `;
const NAME = `${OWN}VERSION`;
const FILES = ["./", "index.html", ...NAMES];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(NAME).then((kept) => kept.addAll(FILES)).then(() => self.skipWaiting()));
});
self.addEventListener("activate", (event) => {
  const old = (names) => names.filter((name) => name.startsWith(OWN) && name !== NAME);
  event.waitUntil(caches.keys().then((names) => Promise.all(old(names).map((name) => caches.delete(name)))));
});
self.addEventListener("fetch", (event) => {
  event.respondWith(caches.match(event.request).then((kept) => kept || fetch(event.request)));
});
