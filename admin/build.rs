//! Builds the pages of `web/` with npm and lays them, compressed where that gains, where the program embeds
//! them from. Writes nothing into the source tree but `web/node_modules` and `web/dist`.
//!
//! `PALABRE_WEB=skip` embeds a plain page instead, for whoever has no Node and works on something else;
//! `PALABRE_WEB=built` embeds `web/dist` as it stands, for a build that has no Node and no network.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;

/// What the pages are built from; a change of any of them builds them again.
const SOURCES: &[&str] = &[
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    "vite.config.ts",
    "vite.config.js",
    "vite.config.mts",
    "tsconfig.json",
    "tsconfig.app.json",
    "tsconfig.node.json",
];

/// File kinds that gain by compression.
const COMPRESSED: &[&str] = &[
    "html",
    "js",
    "mjs",
    "css",
    "json",
    "svg",
    "webmanifest",
    "txt",
    "wasm",
];

const PLACEHOLDER: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>Palabre</title>
<h1>Palabre</h1>
<p lang=\"fr\">Ce programme a été construit sans ses pages. L'API est sous <a href=\"/api/v1/openapi.json\">/api/v1</a>.</p>
<p>This program was built without its pages. The API is under <a href=\"/api/v1/openapi.json\">/api/v1</a>.</p>
";

fn main() {
    if let Err(error) = build() {
        // What cargo shows of a failed build script is its standard error.
        eprintln!("\nThe pages (admin/web) could not be built: {error}\n");
        std::process::exit(1);
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-env-changed=PALABRE_WEB");
    let sources = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("web");
    let embedded = PathBuf::from(variable("OUT_DIR")?).join("web");
    if embedded.exists() {
        fs::remove_dir_all(&embedded)?;
    }
    fs::create_dir_all(&embedded)?;

    // Also while it is absent, so that its appearance is noticed.
    println!(
        "cargo::rerun-if-changed={}",
        sources.join("package.json").display()
    );
    let web = std::env::var_os("PALABRE_WEB").unwrap_or_default();
    if web == "skip" || !sources.join("package.json").exists() {
        return Ok(fs::write(embedded.join("index.html"), PLACEHOLDER)?);
    }
    let built = sources.join("dist");
    if web == "built" {
        println!("cargo::rerun-if-changed={}", built.display());
        if !built.join("index.html").exists() {
            return Err("PALABRE_WEB=built, and web/dist/index.html is not there: run `npm ci` and `npm run build` in admin/web".into());
        }
        return embed(&built, &embedded);
    }
    for source in SOURCES {
        let path = sources.join(source);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    if !is_installed(&sources) {
        npm(&sources, &["ci", "--no-audit", "--no-fund"])?;
    }
    npm(&sources, &["run", "build"])?;
    if !built.join("index.html").exists() {
        return Err("`npm run build` ended well but left no web/dist/index.html".into());
    }
    embed(&built, &embedded)
}

fn variable(name: &str) -> Result<String, Box<dyn Error>> {
    std::env::var(name).map_err(|_| format!("cargo did not set {name}").into())
}

/// Whether `node_modules` is what `package-lock.json` asks for: npm writes its own copy of the lock last.
fn is_installed(sources: &Path) -> bool {
    let changed = |path: &str| -> Option<SystemTime> {
        fs::metadata(sources.join(path)).ok()?.modified().ok()
    };
    match (
        changed("node_modules/.package-lock.json"),
        changed("package-lock.json"),
    ) {
        (Some(installed), Some(asked)) => installed >= asked,
        _ => false,
    }
}

fn npm(folder: &Path, arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    let output = Command::new("npm")
        .args(arguments)
        .current_dir(folder)
        .output();
    let output = output.map_err(|error| {
        format!(
            "npm cannot be started ({error}). Install Node 20 or newer (on Debian: apt install nodejs npm; \
             firmware/run does it), or set PALABRE_WEB=skip to build without the pages."
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "`npm {}` failed ({}) in {}\n{}{}",
        arguments.join(" "),
        output.status,
        folder.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}

/// Copies `from` into `into`, with a `.gz` beside each file that shrinks by a tenth at least.
fn embed(from: &Path, into: &Path) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = into.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            embed(&entry.path(), &target)?;
            continue;
        }
        let bytes = fs::read(entry.path())?;
        fs::write(&target, &bytes)?;
        let kind = target
            .extension()
            .and_then(|kind| kind.to_str())
            .unwrap_or_default();
        if COMPRESSED.contains(&kind) {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&bytes)?;
            let compressed = encoder.finish()?;
            if compressed.len() < bytes.len() / 10 * 9 {
                let mut name = target.into_os_string();
                name.push(".gz");
                fs::write(name, compressed)?;
            }
        }
    }
    Ok(())
}
