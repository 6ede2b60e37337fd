//! Callers that do not read their answers. Each takes little of the service's memory, and other
//! callers are served.

use std::ops::Range;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::channel::Channel;
use crate::support::cloud::{Cloud, agent_text, send_notification};
use crate::support::configuration::{APP_KEY, SMS_KEY, bridge_toml};
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::Process;

on_both_engines!(
    an_unread_document_takes_little_memory,
    an_unread_stream_takes_little_memory,
    an_unread_page_holds_its_permit_until_the_caller_hangs_up,
    many_concurrent_pages_take_little_memory,
    unread_streams_do_not_block_other_channels,
);

/// The memory that one reader may take: its connection, and the buffers of its request and its
/// answer.
const EACH_KIB: usize = 64;

/// Starts the service as a process. Returns it with its channel, and the Cloud and the database,
/// which must outlive it.
async fn serve(engine: Engine) -> (Process, Channel, (Cloud, Database)) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let (process, sms, _) = Process::serve(&bridge_toml(&database.location, &cloud.url)).await;
    (process, sms, (cloud, database))
}

/// Returns the peak memory of a process in KiB.
fn peak_kib(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().trim().trim_end_matches(" kB");
    peak.parse().unwrap()
}

/// Sends a request over a socket.
async fn send_request(
    socket: TcpSocket,
    channel: &Channel,
    target: &str,
    accept: &str,
) -> TcpStream {
    let address = channel.address().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: bridge\r\nAccept: {accept}\r\nAuthorization: Bearer {SMS_KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Opens `count` connections with answers that have begun and are not read. The receive buffers are
/// as small as the system allows.
async fn unread(count: usize, channel: &Channel, target: &str, accept: &str) -> Vec<TcpStream> {
    let mut readers = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2048).unwrap();
        readers.push(send_request(socket, channel, target, accept).await);
    }
    for reader in &mut readers {
        assert_eq!(reader.read_u8().await.unwrap(), b'H');
    }
    readers
}

/// Lets an agent answer the only user: a message of `bytes` bytes for each of these sequences.
async fn answer(cloud: &Cloud, channel: &Channel, sequences: Range<u32>, bytes: usize) {
    let conversation = cloud.only_conversation().id;
    let text = "x".repeat(bytes);
    for sequence in sequences {
        let notification = agent_text(&conversation, sequence, &text);
        send_notification(channel, &notification).await.expect(200);
    }
}

async fn an_unread_document_takes_little_memory(engine: Engine) {
    const READERS: usize = 600;
    let (process, sms, _backends) = serve(engine).await;
    sms.say("ada", "hello").await.expect(201);
    let before = peak_kib(&process);

    let mut readers = unread(READERS / 2, &sms, "/openapi.json", "*/*").await;
    readers.extend(unread(READERS / 2, &sms, "/docs/swagger-ui-bundle.js", "*/*").await);

    sms.say("ada", "are you there?").await.expect(201);
    let more = peak_kib(&process) - before;
    assert!(more < READERS * EACH_KIB, "{more} KiB");
}

async fn an_unread_stream_takes_little_memory(engine: Engine) {
    const READERS: usize = 300;
    let (process, sms, (cloud, _database)) = serve(engine).await;
    sms.say("ada", "hello").await.expect(201);
    let before = peak_kib(&process);
    let stream = "text/event-stream";
    let _readers = unread(READERS, &sms, "/v1/events", stream).await;
    let socket = TcpSocket::new_v4().unwrap();
    let mut reader = send_request(socket, &sms, "/v1/events", stream).await;

    answer(&cloud, &sms, 1000..1150, 2_000).await;
    // Readers that come now get the stored events.
    let _late_readers = unread(READERS, &sms, "/v1/events?after=c0", stream).await;
    answer(&cloud, &sms, 2000..2020, 100_000).await;

    let received = async {
        let mut received = Vec::new();
        while received.len() < 150 * 2_000 + 20 * 100_000 {
            reader.read_buf(&mut received).await.unwrap();
        }
    };
    tokio::time::timeout(crate::support::patience::PATIENCE, received)
        .await
        .unwrap();
    sms.say("ada", "are you there?").await.expect(201);
    let more = peak_kib(&process) - before;
    // In addition, an event of 100 KB is in memory for each reader, up to 64 MiB in total.
    assert!(more < 2 * READERS * EACH_KIB + 65_536, "{more} KiB");
}

async fn an_unread_page_holds_its_permit_until_the_caller_hangs_up(engine: Engine) {
    let (process, sms, (cloud, _database)) = serve(engine).await;
    sms.say("ada", "hello").await.expect(201);
    answer(&cloud, &sms, 1000..1012, 100_000).await;
    let before = peak_kib(&process);

    // A page has at most 1 MiB plus one event.
    let target = "/v1/events?limit=1000";
    let page = sms.get(target).await.expect(200);
    let events = page["events"].as_array().unwrap().len();
    assert_eq!(events, 11, "of {page}");
    let next_page = format!("/v1/events?after={}", page["next"].as_str().unwrap());
    let next_page = sms.get(&next_page).await.expect(200);
    assert_eq!(next_page["events"].as_array().unwrap().len(), 12 - events);
    let readers = unread(100, &sms, target, "application/json").await;

    sms.get(target).await.expect_problem(503, "overloaded");
    sms.say("ada", "are you there?").await.expect(201);
    let more = peak_kib(&process) - before;
    assert!(more < 3 * 65_536, "{more} KiB");
    drop(readers);
    let page = eventually("there is room", async || {
        let reply = sms.get(target).await;
        (reply.status == 200).then_some(reply)
    })
    .await
    .expect(200);
    assert_eq!(page["gap"], json!(null));
}

async fn many_concurrent_pages_take_little_memory(engine: Engine) {
    const READERS: usize = 400;
    let (process, sms, (cloud, _database)) = serve(engine).await;
    sms.say("ada", "hello").await.expect(201);
    let end = sms.get("/v1/events").await.expect(200)["next"].clone();
    let waiting = format!(
        "/v1/events?limit=1000&wait=30&after={}",
        end.as_str().unwrap()
    );
    let before = peak_kib(&process);

    // Half of the readers wait for events, and half come when these are stored.
    let mut readers = Vec::new();
    for _ in 0..READERS / 2 {
        readers.push(send_request(TcpSocket::new_v4().unwrap(), &sms, &waiting, "*/*").await);
    }
    answer(&cloud, &sms, 1000..1012, 100_000).await;
    for _ in 0..READERS / 2 {
        let target = "/v1/events?limit=1000";
        readers.push(send_request(TcpSocket::new_v4().unwrap(), &sms, target, "*/*").await);
    }

    for reader in &mut readers {
        assert_eq!(reader.read_u8().await.unwrap(), b'H');
    }
    sms.say("ada", "are you there?").await.expect(201);
    let more = peak_kib(&process) - before;
    assert!(more < 3 * 65_536, "{more} KiB");
}

async fn unread_streams_do_not_block_other_channels(engine: Engine) {
    const READERS: usize = 700;
    let (_process, sms, (cloud, _database)) = serve(engine).await;
    let app = sms.with_key(APP_KEY);
    app.say("bob", "hello").await.expect(201);
    let conversation = cloud.only_conversation().id;
    let text = "x".repeat(100_000);
    send_notification(&sms, &agent_text(&conversation, 1000, &text))
        .await
        .expect(200);
    sms.say("ada", "hello").await.expect(201);
    let conversations = cloud.sandbox.conversations();
    let other = conversations
        .iter()
        .find(|it| it.id != conversation)
        .unwrap();
    send_notification(&sms, &agent_text(&other.id, 1000, &text))
        .await
        .expect(200);

    // The large events in flight to these readers use up the channel's share.
    let _readers = unread(READERS, &sms, "/v1/events?after=c0", "text/event-stream").await;
    eventually("the channel has used up its share", async || {
        let refused = sms.get("/v1/events").await;
        (refused.status == 503).then_some(())
    })
    .await;

    let page = app.get("/v1/events").await.expect(200);
    let events = page["events"].as_array().unwrap().iter();
    let lengths = events.map(|event| event["data"]["text"].as_str().unwrap_or_default().len());
    assert_eq!(lengths.max(), Some(100_000));
}
