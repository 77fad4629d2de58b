#!/usr/bin/env bash
# PostgreSQL 18 (@electric-sql/pglite 0.5.17, its WebAssembly build): whether a long text fits under a UNIQUE
# constraint depends on how well it compresses, not on its length. A B-tree takes 2704 bytes for a row, counted
# after compression: 100,000 characters of one repeated URL are stored, 3,000 hex digits (a token, a signed URL)
# are refused. Trials with repeated filler do not find the limit.
#
# Seen: "100000 repeated: stored, 3000 hex: index row size 3016 exceeds btree version 4 maximum 2704".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init --yes >/dev/null
npm install --no-audit --no-fund --loglevel=error @electric-sql/pglite@0.5.17

cat >trial.mjs <<'JS'
import { PGlite } from '@electric-sql/pglite';
import { createHash } from 'node:crypto';

const database = await PGlite.create();
const { rows } = await database.query('SHOW server_version');
await database.exec('CREATE TABLE place (url text UNIQUE)');
const store = (url) => database.query('INSERT INTO place VALUES ($1)', [url])
  .then(() => 'stored', (error) => error.message.replace(/ for index.*/, ''));
const repeated = await store('https://example.com/'.repeat(5000));
const digest = (number) => createHash('sha256').update(String(number)).digest('hex');
const hex = await store(Array.from({ length: 47 }, (_, number) => digest(number)).join('').slice(0, 3000));
console.log(`${rows[0].server_version}: 100000 repeated: ${repeated}, 3000 hex: ${hex}`);
process.exit(0);
JS

seen="$(timeout 90 node trial.mjs)"
echo "PostgreSQL $seen"
expected="100000 repeated: stored, 3000 hex: index row size 3016 exceeds btree version 4 maximum 2704"
[ "${seen#*: }" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
