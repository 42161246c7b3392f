-- Times are seconds since 1970-01-01 UTC. Secrets that are only compared are kept as SHA-256 or argon2id.

CREATE TABLE rooms (
    number           INTEGER PRIMARY KEY AUTOINCREMENT, -- order of creation, cursor of lists
    id               TEXT    NOT NULL UNIQUE,           -- the LiveKit room name
    name             TEXT    NOT NULL,
    code             TEXT    NOT NULL UNIQUE,
    slug             TEXT    NOT NULL UNIQUE,
    max_participants INTEGER,
    created          INTEGER NOT NULL
) STRICT;

CREATE TABLE accounts (
    id       TEXT    PRIMARY KEY,
    password TEXT    NOT NULL, -- argon2id, PHC string
    created  INTEGER NOT NULL
) STRICT;

-- At most one row: the code that lets whoever installed the box become its administrator.
CREATE TABLE claim (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    code_hash BLOB    NOT NULL
) STRICT;

CREATE TABLE sessions (
    hash    BLOB    PRIMARY KEY,
    account TEXT    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_expires ON sessions (expires);

CREATE TABLE tokens (
    id      TEXT    PRIMARY KEY,
    hash    BLOB    NOT NULL UNIQUE,
    account TEXT    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name    TEXT    NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER
) STRICT;

-- LiveKit API keys. The secret itself is needed to check a signature. `pages` is the box's own key.
CREATE TABLE api_keys (
    id       TEXT    PRIMARY KEY,
    secret   TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    is_pages INTEGER NOT NULL DEFAULT 0,
    created  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX api_keys_pages ON api_keys (is_pages) WHERE is_pages = 1;
