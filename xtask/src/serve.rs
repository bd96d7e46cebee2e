//! A small static file server for www/dist: ranges, MIME types, cross-origin isolation. For one's own machine only.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::shell::root;

const FIRST_PORT: u16 = 8080;

/// Serves until the process is ended.
pub fn run(port: Option<u16>) -> Result<()> {
    let site = root().join("www/dist");
    if !site.join("index.html").is_file() {
        bail!("www/dist has no index.html: cargo xtask pack");
    }
    let (address, server) = start(site, port)?;
    println!("\n  Kinglet  http://localhost:{}/  (Ctrl+C ends it)\n", address.port());
    server.join().expect("the server does not panic");
    Ok(())
}

/// Starts serving `site` on a thread of its own: on `port`, or on the first free one from 8080.
pub fn start(site: PathBuf, port: Option<u16>) -> Result<(SocketAddr, thread::JoinHandle<()>)> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = match port {
        Some(port) => bind(port).with_context(|| format!("port {port}"))?,
        None => (FIRST_PORT..FIRST_PORT + 100).find_map(|port| bind(port).ok()).context("no free port from 8080 on")?,
    };
    let address = listener.local_addr()?;
    let server = thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let site = site.clone();
            // A browser that goes away in the middle of a file is no event.
            thread::spawn(move || answer(stream, &site).ok());
        }
    });
    Ok((address, server))
}

/// One request per connection.
fn answer(stream: TcpStream, site: &Path) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?.take(64 << 10)).lines();
    let request = lines.next().context("empty request")??;
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut range = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
    if method != "GET" && method != "HEAD" {
        return head(&stream, "405 Method Not Allowed", "text/plain", 0, "Allow: GET, HEAD\r\n");
    }
    let Some(path) = resolve(site, target) else {
        return head(&stream, "404 Not Found", "text/plain", 0, "");
    };
    let mut file = File::open(&path)?;
    let size = file.metadata()?.len();
    let (status, start, end, extra) = match range.as_deref().map(|range| parse_range(range, size)) {
        None => ("200 OK", 0, size, String::new()),
        Some(Some((start, end))) => {
            ("206 Partial Content", start, end, format!("Content-Range: bytes {start}-{}/{size}\r\n", end - 1))
        }
        Some(None) => {
            let extra = format!("Content-Range: bytes */{size}\r\n");
            return head(&stream, "416 Range Not Satisfiable", "text/plain", 0, &extra);
        }
    };
    head(&stream, status, mime(&path), end - start, &extra)?;
    if method == "GET" {
        file.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut file.take(end - start), &mut &stream)?;
    }
    Ok(())
}

fn head(mut stream: &TcpStream, status: &str, mime: &str, length: u64, extra: &str) -> Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {mime}\r\nContent-Length: {length}\r\n{extra}\
         Accept-Ranges: bytes\r\nCache-Control: no-cache\r\nConnection: close\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Embedder-Policy: require-corp\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nX-Content-Type-Options: nosniff\r\n\r\n"
    );
    Ok(stream.write_all(head.as_bytes())?)
}

/// The file that a request's target means; `None` if there is none, or it would lie outside `site`.
fn resolve(site: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?.strip_prefix('/')?;
    let path = PathBuf::from(percent_decode(path)?);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let mut path = site.join(path);
    if path.is_dir() {
        path.push("index.html");
    }
    path.is_file().then_some(path)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        decoded.push(if byte == b'%' { (hex(bytes.next())? * 16 + hex(bytes.next())?) as u8 } else { byte });
    }
    String::from_utf8(decoded).ok()
}

/// `bytes=a-b`, `bytes=a-` or `bytes=-n` as a half-open range; `None` if it cannot be satisfied.
fn parse_range(range: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first, last) {
        ("", suffix) => (size.saturating_sub(suffix.parse().ok()?), size),
        (first, "") => (first.parse().ok()?, size),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.saturating_add(1).min(size)),
    };
    (start < end).then_some((start, end))
}

fn mime(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("wasm") => "application/wasm",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("bytes=0-3", 10), Some((0, 4)));
        assert_eq!(parse_range("bytes=4-", 10), Some((4, 10)));
        assert_eq!(parse_range("bytes=-4", 10), Some((6, 10)));
        assert_eq!(parse_range("bytes=4-99", 10), Some((4, 10)));
        for bad in ["bytes=10-", "bytes=5-4", "bytes=-0", "bytes=a-b", "lines=0-3", "bytes=0-18446744073709551615x"] {
            assert_eq!(parse_range(bad, 10), None, "{bad}");
        }
    }

    #[test]
    fn nothing_outside_the_site() {
        let site = root().join("xtask/src");
        assert_eq!(resolve(&site, "/serve.rs?x=1"), Some(site.join("serve.rs")));
        assert_eq!(resolve(&site, "/s%65rve.rs"), Some(site.join("serve.rs")));
        for outside in
            ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "//etc/passwd", "/%2fetc/passwd", "serve.rs", "/%zz", "/"]
        {
            assert_eq!(resolve(&site, outside), None, "{outside}");
        }
    }
}
