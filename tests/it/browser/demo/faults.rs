//! The faults of the page.

use serde_json::json;

use super::{DESK, PHONE, Stage};
use crate::support::browser::ENTER;
use crate::support::channel::Channel;

#[tokio::test(flavor = "multi_thread")]
async fn messages_written_while_the_cloud_is_unavailable_arrive_later() {
    let stage = Stage::start().await;
    let browser = &stage.browser;
    stage.user_writes("First").await;
    browser.shows(PHONE, "You said: First").await;

    browser.click("#fault-away").await;
    browser.shows("[data-fault=away]", "Active").await;
    stage.user_writes("Second").await;
    stage.user_writes("Third").await;
    stage.latest_of_user_is("queued").await;
    browser.shows("#tally-verdict", "in transit").await;
    browser
        .find("#wire-rows [data-fault=true][data-status='503']")
        .await;
    browser.click("#fault-away-stop").await;

    browser.hides("#fault-away-stop").await;
    browser.shows(PHONE, "You said: Second").await;
    browser.shows(PHONE, "You said: Third").await;
    stage.latest_of_user_is("read").await;
    stage.nothing_is_lost("3", "3").await;
    let shown = browser.text(PHONE).await;
    assert!(
        shown.find("said: Second") < shown.find("said: Third"),
        "{shown}"
    );
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_how_often_a_fault_will_still_occur() {
    let stage = Stage::start().await;
    let browser = &stage.browser;

    browser.click("#fault-duplicate").await;
    browser
        .shows("[data-fault=duplicate]", "3 more times")
        .await;
    browser.click("#fault-away").await;
    browser.shows("[data-fault=away]", "Active").await;
    browser.click("#fault-throttled").await;
    browser
        .shows("[data-fault=throttled]", "3 more times")
        .await;
    browser.click("#fault-away-stop").await;
    browser.hides("#fault-away-stop").await;
    stage.user_writes("Hello").await;
    browser.shows(PHONE, "You said: Hello").await;
    stage.user_writes("Again").await;

    // Stopping one fault leaves the others. They occur until they are used up, and each message
    // arrives once.
    browser.hides("#fault-throttled-stop").await;
    browser.hides("#fault-duplicate-stop").await;
    browser.shows(PHONE, "You said: Again").await;
    stage.nothing_is_lost("2", "2").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_events_pending_for_a_failing_callback() {
    let stage = Stage::start().await;
    let browser = &stage.browser;

    browser.click("#fault-callback").await;
    browser.shows("[data-fault=callback]", "Active").await;
    stage.user_writes("Hello").await;
    browser.shows(PHONE, "You said: Hello").await;
    browser
        .find("#wire-rows .entry-event[data-status='503']")
        .await;
    browser.shows("#tally-verdict", "in transit").await;
    browser.click("#fault-callback-stop").await;

    // The demo's channel resumes its callbacks, so the events do not wait for the bridge's next
    // attempt.
    browser
        .find("#wire-rows [data-path='/v1/deliveries/resume'][data-status='200']")
        .await;
    browser
        .find("#wire-rows .entry-event[data-status='204']")
        .await;
    stage.nothing_is_lost("1", "1").await;
    // Typing that was reported too late is not delivered any more, so it does not count.
    let script = "const ofTyping = (row) => row.querySelector('.subject').textContent === 'typing.changed';
        const rows = [...document.querySelectorAll(arguments[0])];
        const accepted = Number(document.getElementById('tally-accepted').textContent);
        return rows.some(ofTyping) && accepted > 0
            && accepted === rows.filter((row) => row.dataset.status === '204' && !ofTyping(row)).length;";
    stage.is_true(script, "#wire-rows .entry-event").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_for_messages_leaves_typing_alone() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;
    stage.user_writes("First").await;
    stage.latest_of_user_is("sent").await;

    browser.click("#fault-throttled").await;
    browser
        .shows("[data-fault=throttled]", "3 more times")
        .await;
    browser.write("#user-text", "Second").await;
    browser
        .find("#wire-rows [data-path='/v1/users/alice/typing'][data-status='204']")
        .await;
    browser
        .shows("[data-fault=throttled]", "3 more times")
        .await;
    browser.press("#user-text", ENTER).await;

    stage.latest_of_user_is("queued").await;
    browser.shows(DESK, "Second").await;
    stage.nothing_is_lost("2", "0").await;
    let refused = "#wire-rows .entry-cloud[data-fault=true][data-status='429']";
    assert_eq!(browser.count(refused).await, 3);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_answer_is_lost_arrives_once() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;
    stage.user_writes("First").await;
    stage.latest_of_user_is("sent").await;

    browser.click("#fault-lost").await;
    browser.shows("[data-fault=lost]", "1 more time").await;
    stage.user_writes("Second").await;

    browser
        .find("#wire-rows .entry-cloud[data-fault=true][data-status=none]")
        .await;
    browser.hides("#fault-lost-stop").await;
    stage.latest_of_user_is("sent").await;
    stage.nothing_is_lost("2", "0").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_message_out_of_order_arrives_after_the_next_event() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;
    stage.user_writes("Hello").await;
    browser.shows(DESK, "Hello").await;
    stage.agent_writes("Hi").await;
    browser.shows(PHONE, "Hi").await;
    // From here on, no receipt is on its way that could be the next event.
    stage.latest_of_user_is("read").await;
    stage.latest_of_agent_is_read().await;

    browser.click("#fault-reorder").await;
    browser.shows("[data-fault=reorder]", "1 more time").await;
    browser.write("#agent-text", "Late").await;
    browser.shows("#user-typing", "is typing").await;
    browser.press("#agent-text", ENTER).await;
    browser.shows(DESK, "Late").await;
    browser.hides("#fault-reorder-stop").await;
    browser.shows("#tally-verdict", "in transit").await;
    browser.write("#user-text", "So").await;

    browser.shows(PHONE, "Late").await;
    stage.nothing_is_lost("1", "2").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_held_back_arrives_when_the_fault_is_turned_off() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;
    stage.user_writes("Hello").await;
    browser.shows(DESK, "Hello").await;
    stage.agent_writes("Hi").await;
    stage.latest_of_user_is("read").await;
    stage.latest_of_agent_is_read().await;
    let cloud = Channel::new(&stage.page, "none");
    let twice =
        json!({"trouble": "reorder", "times": 2, "only": "content", "by": "ASSIGNED_AGENT"});
    let disturbed = cloud.post("/_sandbox/webhooks/disturbances", twice).await;
    assert_eq!(disturbed.status, 204);
    browser.write("#agent-text", "Late").await;
    browser.shows("#user-typing", "is typing").await;
    browser.press("#agent-text", ENTER).await;
    browser.shows("[data-fault=reorder]", "1 more time").await;
    browser.shows("#tally-verdict", "in transit").await;

    browser.click("#fault-reorder-stop").await;

    browser.shows(PHONE, "Late").await;
    stage.nothing_is_lost("1", "2").await;
    stage.end().await;
}
