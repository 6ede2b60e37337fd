//! A message to a Cloud that is a thread of this process: SEND is written to a socket, and its
//! answer is read.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::Criterion;
use liveperson_bridge::clock::{SharedClock, SystemClock};
use liveperson_bridge::cloud::{Account, Client, Consumer, ConsumerJws, Content, Conversation};
use liveperson_bridge::http;
use liveperson_bridge::telemetry::metrics::Metrics;
use liveperson_bridge::types::conversation::Features;
use liveperson_bridge::types::ids::AccountId;
use liveperson_bridge::types::trace::Trace;
use serde_json::json;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// An arbitrary account.
pub(crate) const ACCOUNT: &str = "12345678";

pub(crate) fn bench(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let client = client(&start());
    let account: AccountId = ACCOUNT.parse().unwrap();
    let token = token(&json!({"sub": "12345678.ext"})).into_bytes().into();
    let token = ConsumerJws::new(token).unwrap();
    let conversation = Conversation {
        consumer: Consumer {
            account: &account,
            token: &token,
        },
        id: &"c-1".parse().unwrap(),
        dialog_id: "c-1",
        features: &Features::default(),
        time_limit: None,
    };
    let trace = Trace::continue_from(Some("req-1"), None, Uuid::nil());
    criterion.bench_function("SEND and its answer, through a socket", |bencher| {
        bencher.iter(|| {
            let text = Content::Text("Where is my parcel? It was due on Tuesday.");
            runtime
                .block_on(client.publish(&conversation, text, None, &trace))
                .unwrap()
        });
    });
}

/// Creates a client of a Cloud at this URL.
pub(crate) fn client(url: &str) -> Client {
    let account = Account {
        id: ACCOUNT.parse().unwrap(),
        client_id: "bench".to_owned(),
        client_secret: "bench-secret".into(),
        domain_api: url.parse().unwrap(),
        allow_http_hosts: Vec::new(),
    };
    let http = http::Client::new(http::Proxy::None).unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    Client::new(&http, &clock, &Metrics::default(), [account])
}

/// Starts a Cloud whose answers never change, and returns its URL.
pub(crate) fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let own = url.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, own) = (stream.unwrap(), own.clone());
            // The thread ends when the client disconnects.
            thread::spawn(move || serve(stream, &own).unwrap_or_default());
        }
    });
    url
}

fn serve(stream: TcpStream, url: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 {
        let answer = answer(line.split(' ').nth(1).unwrap_or_default(), url);
        let mut length = 0;
        while !line.trim_end().is_empty() {
            line.clear();
            stream.read_line(&mut line)?;
            let header = line.trim_end().split_once(": ");
            let header = header.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            length = header.map_or(length, |(_, value)| value.parse().unwrap_or_default());
        }
        line.clear();
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        stream.get_mut().write_all((head + &answer).as_bytes())?;
    }
    Ok(())
}

/// Returns the answer to a request with this target.
fn answer(target: &str, url: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    if let Some((_, service)) = path.split_once("/service/") {
        let service = service.trim_end_matches("/baseURI.json");
        return json!({"service": service, "account": ACCOUNT, "baseURI": url}).to_string();
    }
    if path.starts_with("/sentinel/") {
        let claims = json!({"iat": 1_700_000_000, "exp": 4_000_000_000_i64});
        return json!({"access_token": token(&claims), "token_type": "bearer"}).to_string();
    }
    if path.ends_with("/consumer") {
        let claims = json!({"sub": "12345678.ext", "lp_consumer_id": "b5a1d1f0-5a7e-4a55-9e0a-111111111111"});
        return json!({"token": token(&claims)}).to_string();
    }
    r#"{"reqId":"1","code":"OK","body":{"sequence":0}}"#.to_owned()
}

/// Returns a token with these claims, as long as those of the Cloud.
fn token(claims: &serde_json::Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let header = part(r#"{"kid":"00001","typ":"JWT","alg":"RS256"}"#);
    format!("{header}.{}.{}", part(&claims.to_string()), "s".repeat(342))
}
