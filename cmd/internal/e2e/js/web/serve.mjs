// The page's server. What it owns is where Hydrogen's files lie in its npm package, and how the page is bundled.
import { build } from "esbuild";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(import.meta.url);
const hydrogen = path.dirname(path.dirname(require.resolve("hydrogen-view-sdk")));
const olm = path.dirname(require.resolve("@matrix-org/olm"));

const html = `<!DOCTYPE html><html><head><meta charset="utf-8"><title>Hydrogen</title>
<link rel="stylesheet" href="assets/theme-element-light.css"></head>
<body id="app" class="hydrogen"><script type="module" src="page.js"></script></body></html>`;

const types = { ".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml", ".wasm": "application/wasm", ".json": "application/json" };

// serve gives the page's address on this machine and what ends it.
export async function serve() {
  const { outputFiles } = await build({
    entryPoints: [path.join(import.meta.dirname, "page.mjs")],
    bundle: true, format: "esm", write: false, logLevel: "error",
    external: ["fs", "path", "crypto"], // olm asks for them where there is no browser
  });
  const made = { "/": html, "/index.html": html, "/page.js": outputFiles[0].contents };
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://page");
    response.setHeader("Content-Type", types[path.extname(pathname)] ?? "text/html");
    const name = path.normalize(pathname);
    for (const file of [hydrogen + "/asset-build" + name, hydrogen + "/asset-build/assets" + name, hydrogen + "/lib-build" + name, olm + name]) {
      try {
        return response.end(made[pathname] ?? (await readFile(file)));
      } catch { /* the next */ }
    }
    response.writeHead(404).end();
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return { url: `http://127.0.0.1:${server.address().port}/`, end: () => server.close() };
}
