// SPDX-License-Identifier: Apache-2.0
// The FluentServer of @fluent-org/logger with options from the first argument, JSON; what it gets goes to the file in the
// second, a line of JSON each: [tag, seconds, nanoseconds, record]. It acknowledges a chunk before that is written, so it
// may be stopped, and not killed.
"use strict";
const fs = require("fs");
const {FluentServer} = require("@fluent-org/logger");

const options = JSON.parse(process.argv[2]);
const out = fs.openSync(process.argv[3], "a", 0o600);
if (options.tlsOptions) {
  for (const name of ["key", "cert"]) {
    options.tlsOptions[name] = fs.readFileSync(options.tlsOptions[name]);
  }
}

const server = new FluentServer(options);
server.on("entry", (tag, time, record) => {
  const when = typeof time === "number" ? [time, -1] : [time.epoch, time.nano];
  fs.writeSync(out, JSON.stringify([tag, ...when, record]) + "\n");
});
server.listen();
