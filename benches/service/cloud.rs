//! A Conversational Cloud whose answers never change, and which also takes a channel's callbacks,
//! and a proxy before it. Both are nginx.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tempfile::TempDir;

use crate::machine::{Machine, Measured};

/// An arbitrary account.
pub(crate) const ACCOUNT: &str = "12345678";

/// The path of SEND on the messaging host.
pub(crate) const SEND: &str = "/api/account/12345678/messaging/consumer/conversation/send?v=3";

/// A running Cloud and a running proxy.
pub(crate) struct Cloud {
    url: String,
    proxy_address: String,
    proxy: Child,
    upstream: Child,
    _folder: TempDir,
}

/// Returns a token with these claims, as long as those of the Cloud.
pub(crate) fn token(claims: &serde_json::Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let header = part(r#"{"kid":"00001","typ":"JWT","alg":"RS256"}"#);
    let payload = part(&claims.to_string());
    format!("{header}.{payload}.{}", "s".repeat(342))
}

/// Returns an `AppJWT` that does not expire during a run.
pub(crate) fn app_token() -> String {
    let claims = json!({"aud": "acc:12345678", "iss": "https://sentinel.example", "scope": "msg.consumer",
        "iat": 1_700_000_000, "exp": 4_000_000_000_i64, "client_id": "bench"});
    token(&claims)
}

/// Returns a `ConsumerJWS`, the same for all users.
pub(crate) fn consumer_token() -> String {
    token(
        &json!({"sub": "12345678.ext", "aud": "acc:12345678", "iss": "idp", "iat": 1_700_000_000,
        "lp_consumer_id": "b5a1d1f0-5a7e-4a55-9e0a-111111111111", "lp_ext_id": "bench"}),
    )
}

impl Cloud {
    /// Starts both: the Cloud on the core of the load, the proxy on the core that the service will
    /// use.
    pub(crate) fn start(machine: &Machine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (upstream, address) = nginx(
            folder.path(),
            machine.workers,
            &machine.load_cores,
            "cloud",
            |port| {
                format!(
                    r#"
                location ~ ^/api/account/[^/]+/service/([^/]+)/baseURI.json$ {{
                    return 200 '{{"service":"$1","account":"{ACCOUNT}","baseURI":"http://127.0.0.1:{port}"}}';
                }}
                location /sentinel/ {{ return 200 '{{"access_token":"{app}","token_type":"bearer"}}'; }}
                location /callback {{ return 204; }}
                location ~ /consumer$ {{ return 200 '{{"token":"{consumer}"}}'; }}
                location / {{ return 200 '{{"reqId":"1","code":"OK","body":{{"sequence":0}}}}'; }}"#,
                    app = app_token(),
                    consumer = consumer_token(),
                )
            },
        );
        let (proxy, proxy_address) = nginx(
            folder.path(),
            machine.workers,
            &machine.server_cores,
            "proxy",
            |_| {
                "location / {
                proxy_pass http://cloud;
                proxy_http_version 1.1;
                proxy_set_header Connection '';
            }"
                .to_owned()
                    + &format!(
                        "}} upstream cloud {{ server {address}; keepalive 256; keepalive_requests 100000000;"
                    )
            },
        );
        Self {
            url: format!("http://{address}"),
            proxy_address,
            proxy,
            upstream,
            _folder: folder,
        }
    }

    /// Returns the URL of the domain API.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the address of the proxy.
    pub(crate) fn proxy(&self) -> &str {
        &self.proxy_address
    }

    pub(crate) fn proxy_process(&self) -> Measured {
        Measured {
            name: "nginx",
            id: self.proxy.id(),
        }
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        for child in [&mut self.proxy, &mut self.upstream] {
            end(child);
        }
    }
}

/// Ends an nginx with its workers.
fn end(child: &mut Child) {
    let ended = Command::new("kill").arg(child.id().to_string()).status();
    let _may_have_ended = ended.and_then(|_| child.wait());
}

/// Starts an nginx with these locations in its server.
fn nginx(
    folder: &Path,
    workers: usize,
    core: &str,
    name: &str,
    locations: impl Fn(u16) -> String,
) -> (Child, String) {
    // Finding a free port before binding it would be a race, so nginx tries random ports.
    for _ in 0..5 {
        let port: u16 = rand::random_range(20_000..32_000);
        let file = folder.join(format!("{name}.conf"));
        let text = format!(
            "daemon off; user root; worker_processes {workers}; pid {folder}/{name}.pid; error_log stderr crit;
             events {{ worker_connections 4096; }}
             http {{
                access_log off; keepalive_requests 100000000; default_type application/json;
                client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxied; fastcgi_temp_path {folder}/f;
                uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
                server {{ listen 127.0.0.1:{port} backlog=4096; {locations} }}
             }}",
            folder = folder.display(),
            locations = locations(port),
        );
        std::fs::write(&file, text).unwrap();
        let mut child = Machine::command_on(core, "nginx")
            .args(["-e", "stderr", "-c"])
            .arg(&file)
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx; scripts/bench installs it");
        let address = format!("127.0.0.1:{port}");
        for _ in 0..200 {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            if TcpStream::connect(&address).is_ok() {
                return (child, address);
            }
            sleep(Duration::from_millis(20));
        }
        end(&mut child);
    }
    panic!("nginx does not start");
}

/// Returns the search path with the directory in which Debian installs nginx, which users' paths
/// usually lack.
fn search_path() -> String {
    format!(
        "{}:/usr/sbin:/usr/local/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}
