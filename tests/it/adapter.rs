//! The example adapters of `docs/examples`, each between a bridge and an SMS gateway. The bridge,
//! the simulated Cloud and the adapter are processes of their own. The test plays the gateway, with
//! its users' phones.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Response};
use liveperson_bridge::clock::{Clock as _, SystemClock};
use liveperson_bridge::store::Location;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tempfile::TempDir;
use tokio::net::TcpListener;
use url::form_urlencoded;

use crate::support::channel::Channel;
use crate::support::cloud::{ACCOUNT, CLIENT_ID, CLIENT_SECRET};
use crate::support::configuration::{SMS_KEY, bridge_toml, with_callback};
use crate::support::patience::eventually;
use crate::support::process::{Process, command, command_of};
use crate::support::receiver::SECRET;
use crate::support::relay::Relay;
use crate::support::wire::Wire;

/// Runs each named test with the example in each language.
macro_rules! in_both_languages {
    ($($name:ident),+ $(,)?) => {
        mod python {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Language::Python).await;
            })+
        }

        mod javascript {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Language::JavaScript).await;
            })+
        }
    };
}

in_both_languages!(
    a_text_reaches_the_agent_and_the_reply_comes_in_parts,
    a_number_becomes_the_choice_that_it_names,
    nothing_is_lost_or_doubled_when_the_bridge_and_the_adapter_are_killed,
    nothing_is_doubled_when_an_answer_is_lost,
    messages_come_in_order_once_the_gateway_takes_them_again,
    an_opt_out_erases_the_user_and_an_opt_in_begins_anew,
    files_pass_both_ways,
    a_secure_form_is_refused_so_that_the_agent_learns_of_it,
    a_callback_needs_a_valid_signature_and_counts_once,
);

const USER: &str = "+15551234567";

/// 160: the maximum number of characters in a part.
const MAX_CHARS: usize = 160;

/// The base64 of `account:token`, with which the adapter calls the gateway.
const GATEWAY_AUTH: &str = "Basic YWNjb3VudDp0b2tlbg==";

/// A secret that the adapter accepts beside the bridge's own, as during a replacement.
const FORMER_SECRET: &str = "whsec_AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD";

const PICTURE: &[u8] = include_bytes!("../../crates/sandbox/src/agent/picture.png");

/// A language in which the example is written.
#[derive(Debug, Clone, Copy)]
enum Language {
    Python,
    JavaScript,
}

impl Language {
    /// Returns the path of the program that runs the example, and the name of the example.
    fn example(self) -> (PathBuf, &'static str) {
        let (program, example) = match self {
            Self::Python => ("python3", "sms_adapter.py"),
            Self::JavaScript => ("node", "sms_adapter.mjs"),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
        let found = candidates.find(|candidate| candidate.is_file());
        let found = found.unwrap_or_else(|| panic!("{program} is missing; run scripts/install"));
        (found, example)
    }
}

/// A text message that the gateway has accepted for a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sms {
    to: String,
    text: String,
    media: Option<String>,
}

/// The behavior of the gateway's send API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Working,
    /// It answers 503.
    Unavailable,
    /// It accepts messages, but its answers never arrive.
    Silent,
}

#[derive(Debug, Default)]
struct Records {
    mode: Mode,
    accepted: Vec<Sms>,
    /// The idempotency keys of the accepted messages. A repeated key is accepted without effect.
    keys: BTreeSet<String>,
    repeats: usize,
}

/// A running SMS gateway; clones share it.
#[derive(Debug, Clone)]
struct Gateway {
    url: String,
    records: Arc<Mutex<Records>>,
    client: Client,
}

impl Gateway {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            records: Arc::default(),
            client: Client::builder().no_proxy().build().unwrap(),
        };
        let router = Router::new().fallback(serve).with_state(gateway.clone());
        tokio::task::spawn(async move { axum::serve(listener, router).await.unwrap() });
        gateway
    }

    fn set_mode(&self, mode: Mode) {
        self.records.lock().unwrap().mode = mode;
    }

    /// Returns the accepted messages for a phone.
    fn accepted(&self, user: &str) -> Vec<Sms> {
        let records = self.records.lock().unwrap();
        let accepted = records.accepted.iter().filter(|sms| sms.to == user);
        accepted.cloned().collect()
    }

    /// Returns the texts of the accepted messages for a phone.
    fn texts(&self, user: &str) -> Vec<String> {
        let accepted = self.accepted(user).into_iter();
        accepted.map(|sms| sms.text).collect()
    }

    /// Waits until a phone has got exactly these texts.
    async fn wait_for(&self, user: &str, texts: &[&str]) {
        eventually(&format!("the phone has {texts:?}"), async || {
            (self.texts(user) == texts).then_some(())
        })
        .await;
    }

    fn repeats(&self) -> usize {
        self.records.lock().unwrap().repeats
    }
}

/// Answers the adapter: accepts a text message, or returns the media of one.
async fn serve(
    State(gateway): State<Gateway>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if header("authorization") != Some(GATEWAY_AUTH) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if method == Method::GET {
        return if uri.path() == "/picture" {
            PICTURE.into_response()
        } else {
            "not a picture".into_response()
        };
    }
    let member = |name: &str| {
        let mut pairs = form_urlencoded::parse(&body);
        let pair = pairs.find(|(key, _)| key == name);
        pair.map(|(_, value)| value.into_owned())
    };
    let mode = {
        let mut records = gateway.records.lock().unwrap();
        let key = header("idempotency-key").unwrap().to_owned();
        if records.mode == Mode::Unavailable {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        if records.keys.insert(key) {
            records.accepted.push(Sms {
                to: member("To").unwrap(),
                text: member("Body").unwrap(),
                media: member("MediaUrl"),
            });
        } else {
            records.repeats += 1;
        }
        records.mode
    };
    if mode == Mode::Silent {
        std::future::pending::<()>().await;
    }
    StatusCode::CREATED.into_response()
}

/// An adapter between the gateway and a bridge.
struct Bed {
    language: Language,
    gateway: Gateway,
    /// A client of the sandbox's control API.
    cloud: Channel,
    /// A client of the bridge's API.
    api: Channel,
    toml: String,
    /// In front of the bridge, which has another port after each start.
    to_bridge: Wire,
    /// Between the adapter and `to_bridge`.
    lossy: Relay,
    /// In front of the adapter, which has another port after each start.
    to_adapter: Wire,
    bridge: Option<Process>,
    adapter: Option<Process>,
    _sandbox: Process,
    folder: TempDir,
}

impl Bed {
    async fn start(language: Language) -> Self {
        let to_bridge = Wire::to(&["not yet"]).await;
        let to_adapter = Wire::to(&["not yet"]).await;
        let url_of_bridge = format!("http://{}", to_bridge.address());

        let mut sandbox = command(&["sandbox", "--listen=127.0.0.1:0", "--agent"]);
        let webhook = format!("{url_of_bridge}/webhooks/{ACCOUNT}");
        sandbox.envs([
            ("SANDBOX_WEBHOOK_URL", &*webhook),
            ("SANDBOX_ACCOUNT_ID", ACCOUNT),
            ("SANDBOX_CLIENT_ID", CLIENT_ID),
            ("SANDBOX_CLIENT_SECRET", CLIENT_SECRET),
        ]);
        let sandbox = Process::start(sandbox);
        let listens = sandbox.output_line("listens on http://").await;
        let cloud_url = listens.split_whitespace().last().unwrap();
        let cloud = Channel::new(cloud_url, "none");
        let script = json!({"script": "built-in", "pace_ms": 0});
        cloud.put("/_sandbox/agent", script).await.expect(204);

        let folder = tempfile::tempdir().unwrap();
        let location = Location::Embedded {
            data_dir: folder.path().join("data"),
        };
        let callback = format!("http://{}/liveperson", to_adapter.address());
        let toml = bridge_toml(&location, cloud_url);
        let toml = with_callback(&toml, &callback, &format!("{SECRET:?}"));
        let channel = "id = \"sms\"\n";
        let links = format!("{channel}signed_file_links = \"72h\"\n");
        let toml = toml.replacen(channel, &links, 1);
        let mut bed = Self {
            language,
            gateway: Gateway::start().await,
            cloud,
            api: Channel::new(&url_of_bridge, SMS_KEY),
            toml: format!("public_url = \"{url_of_bridge}\"\n{toml}"),
            lossy: Relay::start(to_bridge.address()).await,
            to_bridge,
            to_adapter,
            bridge: None,
            adapter: None,
            _sandbox: sandbox,
            folder,
        };
        bed.start_bridge().await;
        bed.start_adapter().await;
        bed
    }

    async fn start_bridge(&mut self) {
        let (bridge, sms, _) = Process::serve(&self.toml).await;
        self.to_bridge.set_target(0, Some(sms.address()));
        self.bridge = Some(bridge);
        // The sandbox need not wait for its next attempt.
        let retry = self.cloud.post("/_sandbox/webhooks/retry", json!({}));
        retry.await.expect(204);
    }

    async fn kill_bridge(&mut self) {
        self.to_bridge.set_target(0, None);
        self.bridge.take().unwrap().kill().await;
    }

    async fn start_adapter(&mut self) {
        let (program, example) = self.language.example();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
        let example = examples.join(example);
        let mut adapter = command_of(&program, &[example.to_str().unwrap()]);
        adapter
            // A program may be a script that looks for others in the path.
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LISTEN", "127.0.0.1:0")
            .env("STATE_FILE", self.folder.path().join("state"))
            .env("API_URL", format!("http://{}", self.lossy.address()))
            .env("SMS_API_KEY", SMS_KEY)
            .env("SMS_CALLBACK_SECRET", format!("{FORMER_SECRET} {SECRET}"))
            .env("GATEWAY_URL", format!("{}/messages", self.gateway.url))
            .env("GATEWAY_NUMBER", "+15550000000")
            .env("GATEWAY_AUTH", "account:token")
            .env("GATEWAY_WEBHOOK_AUTH", "gateway:password")
            .env("GATEWAY_MAX_CHARS", MAX_CHARS.to_string());
        let adapter = Process::start(adapter);
        let listens = adapter.output_line("listening on http://").await;
        let address = listens.split_once("http://").unwrap().1;
        self.to_adapter.set_target(0, Some(address));
        self.adapter = Some(adapter);
    }

    async fn kill_adapter(&mut self) {
        self.to_adapter.set_target(0, None);
        self.adapter.take().unwrap().kill().await;
    }

    fn phones(&self) -> Phones {
        Phones {
            client: self.gateway.client.clone(),
            url: format!("http://{}/sms", self.to_adapter.address()),
        }
    }

    /// Sends a text of [`USER`]. It is also the id of the message.
    async fn say(&self, text: &str) {
        let id = text.replace(' ', "-");
        self.phones().send(&id, USER, text).await;
    }

    /// Returns the user's conversations at the Cloud, in the order of their opening.
    async fn conversations(&self, user: &str) -> Vec<Value> {
        let all = self.cloud.get("/_sandbox/conversations").await.expect(200);
        let mut conversations = all.as_array().unwrap().clone();
        conversations.retain(|it| it["ext_consumer_id"] == format!("sms:{user}"));
        conversations
    }

    /// Returns the messages of the user at the Cloud, in order.
    async fn messages(&self, user: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        for conversation in self.conversations(user).await {
            for dialog in conversation["dialogs"].as_array().unwrap() {
                messages.extend(dialog["events"].as_array().unwrap().clone());
            }
        }
        messages.retain(|it| {
            it["originator"]["role"] == "CONSUMER" && it["event"]["type"] == "ContentEvent"
        });
        messages
    }

    /// Waits until the user's messages at the Cloud are exactly these.
    async fn wait_for_messages(&self, user: &str, expected: &[&str]) {
        eventually(&format!("the Cloud has {expected:?}"), async || {
            let messages = self.messages(user).await;
            let messages = messages.iter().map(|it| &it["event"]["message"]);
            messages.eq(expected.iter().copied()).then_some(())
        })
        .await;
    }

    /// Lets an agent act in the conversation of [`USER`].
    async fn act(&self, action: Value) {
        let conversations = self.conversations(USER).await;
        let id = conversations[0]["id"].as_str().unwrap();
        let path = format!("/_sandbox/conversations/{id}/agent");
        self.cloud.post(&path, action).await.expect(200);
    }

    /// Sends a callback to the adapter, and returns the status of the answer.
    async fn call_back(&self, id: &str, at: i64, signature: &str, body: &str) -> u16 {
        let url = format!("http://{}/liveperson", self.to_adapter.address());
        let request = self.gateway.client.post(url);
        let request = request
            .header("webhook-id", id)
            .header("webhook-timestamp", at.to_string())
            .header("webhook-signature", signature);
        let response = request.body(body.to_owned()).send().await.unwrap();
        response.status().as_u16()
    }
}

/// The phones of all users.
#[derive(Debug, Clone)]
struct Phones {
    client: Client,
    url: String,
}

impl Phones {
    /// Passes a message on to the adapter, as often as it takes until the adapter accepts it.
    async fn send(&self, id: &str, user: &str, text: &str) {
        eventually("the adapter accepts a message", async || {
            let form = [("MessageSid", id), ("From", user), ("Body", text)];
            (self.post(&form).await == Some(204)).then_some(())
        })
        .await;
    }

    /// Passes a message with media on to the adapter.
    async fn send_media(&self, id: &str, text: &str, media: &str) {
        let form = [
            ("MessageSid", id),
            ("From", USER),
            ("Body", text),
            ("NumMedia", "1"),
            ("MediaUrl0", media),
        ];
        assert_eq!(self.post(&form).await, Some(204));
    }

    /// Posts a form. Returns the status, or `None` if there was no answer.
    async fn post(&self, form: &[(&str, &str)]) -> Option<u16> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = self.client.post(&self.url);
        let request = request
            .basic_auth("gateway", Some("password"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let response = request.send().await.ok()?;
        Some(response.status().as_u16())
    }
}

async fn a_text_reaches_the_agent_and_the_reply_comes_in_parts(language: Language) {
    let bed = Bed::start(language).await;
    let numbers: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    let long = numbers.join(" ");

    bed.phones().send("sms-1", USER, "héllo 👋").await;
    bed.gateway.wait_for(USER, &["You said: héllo 👋"]).await;
    bed.act(json!({"type": "text", "text": long})).await;

    bed.wait_for_messages(USER, &["héllo 👋"]).await;
    let all = format!("You said: héllo 👋 {long}");
    eventually("the phone has all parts", async || {
        (bed.gateway.texts(USER).join(" ") == all).then_some(())
    })
    .await;
    for text in bed.gateway.texts(USER) {
        assert!((1..=MAX_CHARS).contains(&text.chars().count()), "{text:?}");
    }
}

async fn a_number_becomes_the_choice_that_it_names(language: Language) {
    let bed = Bed::start(language).await;
    let metadata = json!([{"type": "ExternalId", "id": "P1"}]);
    let question = json!({"type": "text", "text": "Which fruit?", "quick_replies": [
        {"title": "Apple", "text": "apples"},
        {"title": "Pear", "text": "pears, please", "metadata": metadata},
    ]});
    let script = json!({"script": [{"when": "menu", "then": [question]}]});
    bed.cloud.put("/_sandbox/agent", script).await.expect(204);
    let shown = "Which fruit?\n1. Apple\n2. Pear";

    bed.say("menu").await;
    bed.gateway.wait_for(USER, &[shown]).await;
    bed.say("2").await;
    bed.say("the menu again").await;
    bed.gateway.wait_for(USER, &[shown, shown]).await;
    // A choice without metadata.
    bed.say("1").await;

    let all = ["menu", "pears, please", "the menu again", "apples"];
    bed.wait_for_messages(USER, &all).await;
    let messages = bed.messages(USER).await;
    let sent = messages[1]["metadata"].to_string();
    assert!(sent.contains("P1"), "{sent}");
}

/// Sends messages from several phones, one after the other. Their texts are these numbers.
async fn write(phones: &Phones, users: &[&str], numbers: Range<u32>) {
    for number in numbers {
        for user in users {
            let id = format!("{user}-{number}");
            phones.send(&id, user, &number.to_string()).await;
        }
    }
}

async fn nothing_is_lost_or_doubled_when_the_bridge_and_the_adapter_are_killed(language: Language) {
    const USERS: [&str; 3] = ["+15550000001", "+15550000002", "+15550000003"];
    const SOME: u32 = 5;
    let mut bed = Bed::start(language).await;
    let phones = bed.phones();
    let mut numbers = 0..SOME;
    let mut advance = || {
        let next = numbers.end..numbers.end + SOME;
        std::mem::replace(&mut numbers, next)
    };

    for _ in 0..3 {
        // Each kill comes while messages of the step before are on their way.
        write(&phones, &USERS, advance()).await;
        bed.kill_bridge().await;
        write(&phones, &USERS, advance()).await;
        bed.start_bridge().await;
        tokio::join!(write(&phones, &USERS, advance()), async {
            bed.kill_adapter().await;
            bed.start_adapter().await;
        });
    }

    let written = (0..numbers.start)
        .map(|number| number.to_string())
        .collect::<Vec<_>>();
    let replies = written
        .iter()
        .map(|text| format!("You said: {text}"))
        .collect::<Vec<_>>();
    let written = written.iter().map(String::as_str).collect::<Vec<_>>();
    let replies = replies.iter().map(String::as_str).collect::<Vec<_>>();
    for user in USERS {
        bed.wait_for_messages(user, &written).await;
        bed.gateway.wait_for(user, &replies).await;
    }
    // Nothing more comes once nothing is left to do.
    eventually("all callbacks are delivered", async || {
        let pending = bed.api.get("/v1/deliveries?state=pending&limit=1").await;
        (pending.expect(200)["deliveries"] == json!([])).then_some(())
    })
    .await;
    for user in USERS {
        bed.wait_for_messages(user, &written).await;
        assert_eq!(bed.gateway.texts(user), replies);
    }
}

async fn nothing_is_doubled_when_an_answer_is_lost(language: Language) {
    let mut bed = Bed::start(language).await;

    // The bridge's answer to the adapter.
    bed.lossy.lose_response_to(b"first");
    bed.say("first").await;
    bed.gateway.wait_for(USER, &["You said: first"]).await;
    bed.wait_for_messages(USER, &["first"]).await;

    // The adapter's answer to the gateway, which therefore posts the message again.
    bed.say("first").await;

    // The gateway's answer to the adapter, which dies before it can record the part as sent.
    bed.gateway.set_mode(Mode::Silent);
    bed.say("second").await;
    let both = ["You said: first", "You said: second"];
    bed.gateway.wait_for(USER, &both).await;
    bed.kill_adapter().await;
    bed.gateway.set_mode(Mode::Working);
    bed.start_adapter().await;
    eventually("the part is sent again", async || {
        (bed.gateway.repeats() > 0).then_some(())
    })
    .await;

    bed.say("third").await;
    let all = [both[0], both[1], "You said: third"];
    bed.gateway.wait_for(USER, &all).await;
    bed.wait_for_messages(USER, &["first", "second", "third"])
        .await;
}

async fn messages_come_in_order_once_the_gateway_takes_them_again(language: Language) {
    let bed = Bed::start(language).await;
    bed.gateway.set_mode(Mode::Unavailable);

    bed.say("one").await;
    bed.say("two").await;
    eventually("a callback fails", async || {
        let pending = bed.api.get("/v1/deliveries?state=pending").await;
        let pending = pending.expect(200);
        let mut pending = pending["deliveries"].as_array()?.iter();
        let one = pending.find(|it| it["type"] == "message.created")?;
        (one["attempts"] != 0).then_some(())
    })
    .await;
    assert_eq!(bed.gateway.texts(USER), [""; 0]);
    bed.gateway.set_mode(Mode::Working);

    let replies = ["You said: one", "You said: two"];
    bed.gateway.wait_for(USER, &replies).await;
}

async fn an_opt_out_erases_the_user_and_an_opt_in_begins_anew(language: Language) {
    let mut bed = Bed::start(language).await;
    let phones = bed.phones();
    let path = "/v1/users/%2B15551234567";
    bed.say("hello").await;
    bed.gateway.wait_for(USER, &["You said: hello"]).await;
    bed.api.get(path).await.expect(200);

    // The erasure waits until the bridge is there.
    bed.kill_bridge().await;
    phones.send("stop-1", USER, " Stop ").await;
    bed.start_bridge().await;
    eventually("the user is erased", async || {
        (bed.api.get(path).await.status == 404).then_some(())
    })
    .await;
    eventually("the conversation is closed", async || {
        let conversations = bed.conversations(USER).await;
        (conversations[0]["stage"] == "CLOSE").then_some(())
    })
    .await;

    // Neither side reaches the other any more.
    let late = event("evt_late", "Are you still there?");
    let at = SystemClock.now().timestamp();
    let signature = sign(SECRET, "evt_late", at, &late);
    assert_eq!(bed.call_back("evt_late", at, &signature, &late).await, 204);
    bed.say("not any more").await;

    phones.send("start-1", USER, "START").await;
    // The gateway posts the first word again, as if it had got no answer.
    phones.send("stop-1", USER, " Stop ").await;
    bed.say("here again").await;
    let texts = ["You said: hello", "You said: here again"];
    bed.gateway.wait_for(USER, &texts).await;
    bed.wait_for_messages(USER, &["hello", "here again"]).await;
    bed.api.get(path).await.expect(200);
}

async fn files_pass_both_ways(language: Language) {
    let bed = Bed::start(language).await;
    let media = |name: &str| format!("{}/{name}", bed.gateway.url);

    bed.phones()
        .send_media("sms-1", "Look", &media("picture"))
        .await;
    let messages = eventually("the Cloud has the picture", async || {
        let messages = bed.messages(USER).await;
        (messages.len() == 2).then_some(messages)
    })
    .await;
    assert_eq!(messages[0]["event"]["message"], "Look");
    let path = messages[1]["event"]["message"]["relativePath"].as_str();
    let name = path.unwrap().rsplit('/').next().unwrap();
    let path = format!("/_sandbox/files/{name}");
    let stored = bed.cloud.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(stored.bytes().await.unwrap(), PICTURE);

    // The agent learns of a file that cannot be passed on.
    bed.phones().send_media("sms-2", "", &media("text")).await;
    let note = eventually("the Cloud has the note", async || {
        bed.messages(USER).await.get(2).cloned()
    })
    .await;
    let note = note["event"]["message"].as_str().unwrap().to_owned();
    assert!(note.contains("file"), "{note}");

    // The gateway has no key of the bridge.
    bed.say("picture").await;
    let picture = eventually("the phone has the picture", async || {
        let mut accepted = bed.gateway.accepted(USER).into_iter();
        accepted.find(|sms| sms.text == "A picture")
    })
    .await;
    let link = picture.media.unwrap();
    let loaded = bed.gateway.client.get(&link).send().await.unwrap();
    assert_eq!(loaded.status(), 200);
    assert_eq!(loaded.bytes().await.unwrap(), PICTURE);

    // A phone that shows no PDF opens the link.
    let pdf = json!({"type": "file", "file_type": "PDF", "caption": "The contract",
        "content": "JVBERg=="});
    bed.act(pdf).await;
    let contract = eventually("the phone has the link", async || {
        let mut accepted = bed.gateway.accepted(USER).into_iter();
        accepted.find(|sms| sms.text.starts_with("The contract\n"))
    })
    .await;
    assert_eq!(contract.media, None);
    let link = contract.text.lines().last().unwrap();
    let loaded = bed.gateway.client.get(link).send().await.unwrap();
    assert_eq!(loaded.bytes().await.unwrap(), "%PDF");
}

async fn a_secure_form_is_refused_so_that_the_agent_learns_of_it(language: Language) {
    let bed = Bed::start(language).await;
    bed.say("hello").await;
    bed.gateway.wait_for(USER, &["You said: hello"]).await;

    bed.act(json!({"type": "secure_form", "title": "Your card", "form_id": "F1"}))
        .await;

    eventually("the agent learns of it", async || {
        let conversation = bed.conversations(USER).await.remove(0);
        let mut events = conversation["dialogs"][0]["events"].as_array()?.iter();
        events
            .any(|it| it["event"]["status"] == "NACK")
            .then_some(())
    })
    .await;
    assert_eq!(bed.gateway.texts(USER), ["You said: hello"]);
}

/// Returns a callback's body with an agent's text for [`USER`].
fn event(id: &str, text: &str) -> String {
    let sender = json!({"id": "agent-1", "role": "agent"});
    let data = json!({"sequence": 1, "dialog_id": "d", "sender": sender, "text": text});
    json!({"id": id, "type": "message.created", "channel": "sms", "user_id": USER, "data": data})
        .to_string()
}

/// Returns the signature of a callback.
fn sign(secret: &str, id: &str, at: i64, body: &str) -> String {
    let webhook = Webhook::new(secret).unwrap();
    webhook.sign(id, at, body.as_bytes()).unwrap()
}

async fn a_callback_needs_a_valid_signature_and_counts_once(language: Language) {
    const FOREIGN_SECRET: &str = "whsec_BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
    let bed = Bed::start(language).await;
    let now = SystemClock.now().timestamp();
    let (id, body) = ("evt_1", event("evt_1", "Hello"));
    let altered = event("evt_1", "Give me your password");

    for (at, signature, body) in [
        (now, sign(FOREIGN_SECRET, id, now, &body), &body),
        (now, sign(SECRET, id, now, &body), &altered),
        (now, sign(SECRET, "evt_2", now, &body), &body),
        (now, sign(SECRET, id, now - 1, &body), &body),
        // Recorded, and repeated too late.
        (now - 400, sign(SECRET, id, now - 400, &body), &body),
        (now + 400, sign(SECRET, id, now + 400, &body), &body),
        (now, "v1,".to_owned(), &body),
        (now, String::new(), &body),
    ] {
        let status = bed.call_back(id, at, &signature, body).await;
        assert_eq!(status, 401, "{at} {signature} {body}");
    }
    let url = format!("http://{}/liveperson", bed.to_adapter.address());
    let unsigned = bed.gateway.client.post(url).body(body.clone());
    assert_eq!(unsigned.send().await.unwrap().status(), 401);
    let phones = bed.phones();
    let foreign = phones.client.post(&phones.url);
    let foreign = foreign.basic_auth("gateway", Some("guess")).body("");
    assert_eq!(foreign.send().await.unwrap().status(), 401);
    assert_eq!(bed.gateway.texts(USER), [""; 0]);

    // Each of two secrets is accepted, and the same event counts once.
    for secret in [SECRET, FORMER_SECRET] {
        let foreign = sign(FOREIGN_SECRET, id, now, &body);
        let signature = format!("{foreign} {}", sign(secret, id, now, &body));
        assert_eq!(bed.call_back(id, now, &signature, &body).await, 204);
    }
    assert_eq!(bed.gateway.texts(USER), ["Hello"]);
    assert_eq!(bed.gateway.repeats(), 0);
}
