//! Users who write, send files and receipts, close, rate and are erased. Each waits for an answer
//! before the next action.
//!
//! Half of the actions have an `Idempotency-Key` and are repeated until they get a 2xx. The others
//! are sent once: without an answer, the Cloud may have them or not.

use std::time::{Duration, Instant};

use chrono::Utc;
use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use tokio::sync::watch;
use tokio::time::sleep;

use super::actions::{Action, Life, UserAction};
use super::agents::Assignment;
use super::parts::{Mix, Part};
use crate::support::channel::{Channel, try_send};

/// 20 s: longer than a running replica takes to answer, including the wait for a dead replica's
/// lease.
const PATIENCE: Duration = Duration::from_secs(20);

/// 90 s: longer than a replica takes to answer if it is frozen meanwhile.
const LONG_PATIENCE: Duration = Duration::from_secs(90);

/// 2 min: the time after the end during which actions with a key are repeated.
const FINAL_RETRIES: Duration = Duration::from_mins(2);

/// A simulated client that plays one user after the other.
#[derive(Debug)]
pub(super) struct User {
    pub(super) number: u32,
    pub(super) channel: Channel,
    pub(super) mix: Mix,
    /// The random numbers for the actions.
    pub(super) plan: StdRng,
    /// The random numbers for waiting times.
    pub(super) wait_rng: StdRng,
    /// The average pause between two actions.
    pub(super) pace: Duration,
    /// Tells the agent the user's id and conversation.
    pub(super) assignment: watch::Sender<Option<Assignment>>,
}

impl User {
    /// Acts until the end. After an erasure it continues as a new user. The last action is repeated
    /// until it is answered.
    pub(super) async fn act_until(mut self, end: Instant) -> Vec<Life> {
        let mut lives = Vec::new();
        while Instant::now() < end {
            let mut life = Life::new(format!("user-{}-{}", self.number, lives.len()));
            self.live(&mut life, end).await;
            lives.push(life);
        }
        lives
    }

    async fn live(&mut self, life: &mut Life, end: Instant) {
        // Before an erasure, every answer is awaited: a frozen replica might do an abandoned
        // request after the erasure.
        let user_actions = self.plan.random_range(10..60);
        let is_to_be_erased = self.mix.has(Part::Erasures) && self.plan.random_bool(0.3);
        while Instant::now() < end {
            self.act(life, is_to_be_erased, end).await;
            sleep(self.pace.mul_f64(self.plan.random_range(0.0..2.0))).await;
            if is_to_be_erased && life.user_actions.len() >= user_actions {
                self.erase(life, end + FINAL_RETRIES).await;
                return;
            }
        }
    }

    /// Does the next action, and a rating after a close.
    async fn act(&mut self, life: &mut Life, is_patient: bool, end: Instant) {
        let action = self.next(life);
        let is_close = matches!(action, Action::Close { .. });
        let can_have_key = !matches!(action, Action::Rating(_));
        let is_keyed = self.plan.random_bool(0.5) && self.mix.has(Part::Keys);
        let key = (is_keyed && can_have_key)
            .then(|| format!("{} {}", life.user_id, life.user_actions.len()));
        let is_async = self.plan.random_bool(0.1) && self.mix.has(Part::Async);
        let is_repeated = self.plan.random_bool(0.1);
        let mut user_action = UserAction::new(action, key, is_async);
        if user_action.key.is_some() {
            self.send_until_settled(life, &mut user_action, end + FINAL_RETRIES, is_patient)
                .await;
            if is_repeated {
                self.send(life, &mut user_action, is_patient).await;
            }
        } else {
            self.send(life, &mut user_action, is_patient).await;
        }
        self.assign_agent(life, &user_action);
        let is_closed = is_close && user_action.was_sent_immediately();
        life.user_actions.push(user_action);
        let (rates, csat) = (self.plan.random_bool(0.5), self.plan.random_range(1..=5));
        if is_closed && rates && self.mix.has(Part::Ratings) {
            let mut rating = UserAction::new(Action::Rating(csat), None, false);
            self.send(life, &mut rating, is_patient).await;
            life.user_actions.push(rating);
        }
    }

    /// Chooses the next action. Each choice draws the same number of random values, so that the
    /// plan does not depend on the mix.
    fn next(&mut self, life: &Life) -> Action {
        let number = life.user_actions.len();
        let (choice, wants_survey) = (self.plan.random_range(0..100), self.plan.random_bool(0.5));
        let text = format!(" <{}> {number} {}", life.user_id, letters(number));
        match choice {
            0..6 if self.mix.has(Part::Files) => Action::File(text),
            6..14 if self.mix.has(Part::Receipts) && number > 0 => {
                Action::Receipt(u32::try_from(number).unwrap())
            }
            14..16 if self.mix.has(Part::Closes) && number > 0 => Action::Close {
                survey: wants_survey && self.mix.has(Part::Surveys),
            },
            _ => Action::Text(text),
        }
    }

    /// Sends an action with a key until it has a 2xx or is refused.
    async fn send_until_settled(
        &mut self,
        life: &mut Life,
        user_action: &mut UserAction,
        until: Instant,
        is_patient: bool,
    ) {
        while !user_action.is_settled() {
            if Instant::now() >= until {
                let complaint = format!("{}: no answer for {user_action:?}", life.user_id);
                life.complaints.push(complaint);
                return;
            }
            self.send(life, user_action, is_patient).await;
            if !user_action.is_settled() {
                self.wait_before_repeating().await;
            }
        }
    }

    async fn wait_before_repeating(&mut self) {
        let pause = self.wait_rng.random_range(500..1500);
        sleep(Duration::from_millis(pause)).await;
    }

    /// Sends an action once; some requests are abandoned early.
    async fn send(&mut self, life: &mut Life, user_action: &mut UserAction, is_patient: bool) {
        user_action.requests += 1;
        let hangs_up = self.wait_rng.random_bool(0.05) && self.mix.has(Part::HangUps);
        let patience = match (is_patient, hangs_up) {
            (true, _) => LONG_PATIENCE,
            (false, true) => Duration::from_millis(self.wait_rng.random_range(1..200)),
            (false, false) => PATIENCE,
        };
        let mut request = user_action
            .action
            .request(&self.channel, &life.user_id)
            // Each request has a connection of its own, so that all replicas get requests.
            .header("connection", "close")
            .timeout(patience);
        if let Some(key) = &user_action.key {
            request = request.header("idempotency-key", key);
        }
        if user_action.is_async {
            request = request.header("prefer", "respond-async");
        }
        // A request without an answer has no result to record.
        if let Ok(reply) = try_send(request).await
            && let Err(complaint) = user_action.record(&reply)
        {
            life.complaints
                .push(format!("{}: {complaint}", life.user_id));
        }
    }

    /// Tells the agent the user's conversation, if the answer names it. A queued message may go to
    /// another conversation.
    fn assign_agent(&self, life: &Life, user_action: &UserAction) {
        let last = user_action.accepted.last().filter(|it| it.status == 201);
        let Some(conversation) = last.and_then(|accepted| accepted.conversation_id.as_ref()) else {
            return;
        };
        let assignment = Assignment {
            user_id: life.user_id.clone(),
            conversation: conversation.clone(),
        };
        self.assignment.send_replace(Some(assignment));
    }

    /// Erases the user; a new user follows.
    async fn erase(&mut self, life: &mut Life, until: Instant) {
        life.is_ending = true;
        while Instant::now() < until {
            let path = format!("/v1/users/{}", life.user_id);
            let request = self.channel.request(Method::DELETE, &path);
            let request = request.header("connection", "close").timeout(LONG_PATIENCE);
            match try_send(request).await {
                // With 202 the user is erased as well; the conversation is closed a little later.
                Ok(reply) if matches!(reply.status, 202 | 204) => {
                    life.erased_at = Some(Utc::now());
                    self.assignment.send_replace(None);
                    return;
                }
                Ok(reply) if !(500..600).contains(&reply.status) => {
                    life.complaints.push(format!("{}: {reply:?}", life.user_id));
                    return;
                }
                _ => self.wait_before_repeating().await,
            }
        }
        life.complaints
            .push(format!("{} could not be erased", life.user_id));
    }
}

/// Writes a number in letters, which masking does not alter.
fn letters(mut number: usize) -> String {
    let mut letters = String::new();
    loop {
        letters.push(char::from(b'a' + u8::try_from(number % 26).unwrap()));
        number /= 26;
        if number == 0 {
            return letters;
        }
    }
}
