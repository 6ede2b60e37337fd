//! Users who write, send files, acknowledge, close, rate and are erased, each waiting for an answer before the next deed.
//!
//! Half of what they do bears an `Idempotency-Key` and is sent again until it has a 2xx. The rest is sent once: what has no
//! answer may be at the Cloud or not.

use std::time::{Duration, Instant};

use chrono::Utc;
use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use tokio::sync::watch;
use tokio::time::sleep;

use super::agents::Seat;
use super::deeds::{Deed, Life, What};
use super::parts::{Mix, Part};
use crate::support::channel::{Channel, try_send};

/// 20 s: longer than any answer takes of a replica that runs, the wait for a dead one's lease included.
const PATIENCE: Duration = Duration::from_secs(20);

/// 90 s: longer than an answer takes of a replica that is frozen meanwhile.
const LONG_PATIENCE: Duration = Duration::from_secs(90);

/// 2 min: how long after the end what bears a key is sent again.
const LAST_TRIES: Duration = Duration::from_mins(2);

/// A place for one user after the other.
#[derive(Debug)]
pub(super) struct User {
    pub(super) number: u32,
    pub(super) channel: Channel,
    pub(super) mix: Mix,
    /// What it does.
    pub(super) plan: StdRng,
    /// How it waits.
    pub(super) patience: StdRng,
    /// How long it waits between two deeds, on average.
    pub(super) pace: Duration,
    /// Where its agent reads who it is and which conversation it is in.
    pub(super) seat: watch::Sender<Option<Seat>>,
}

impl User {
    /// Acts until the end, as one user after the other where they are erased, and then brings the last deed to its answer.
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
        // Who is to be erased waits for every answer: what was given up might be done by a frozen replica after the erasure.
        let deeds = self.plan.random_range(10..60);
        let is_to_be_erased = self.mix.has(Part::Erasures) && self.plan.random_bool(0.3);
        while Instant::now() < end {
            self.act(life, is_to_be_erased, end).await;
            sleep(self.pace.mul_f64(self.plan.random_range(0.0..2.0))).await;
            if is_to_be_erased && life.deeds.len() >= deeds {
                self.erase(life, end + LAST_TRIES).await;
                return;
            }
        }
    }

    /// Does the next thing, and what belongs to it.
    async fn act(&mut self, life: &mut Life, is_patient: bool, end: Instant) {
        let what = self.next(life);
        let is_close = matches!(what, What::Close { .. });
        let can_have_key = !matches!(what, What::Rating(_));
        let is_keyed = self.plan.random_bool(0.5) && self.mix.has(Part::Keys);
        let key =
            (is_keyed && can_have_key).then(|| format!("{} {}", life.user_id, life.deeds.len()));
        let is_async = self.plan.random_bool(0.1) && self.mix.has(Part::Async);
        let is_said_again = self.plan.random_bool(0.1);
        let mut deed = Deed::new(what, key, is_async);
        if deed.key.is_some() {
            self.insist(life, &mut deed, end + LAST_TRIES, is_patient)
                .await;
            if is_said_again {
                self.send(life, &mut deed, is_patient).await;
            }
        } else {
            self.send(life, &mut deed, is_patient).await;
        }
        self.tell_the_agent(life, &deed);
        let is_closed = is_close && deed.was_done_at_once();
        life.deeds.push(deed);
        let (rates, csat) = (self.plan.random_bool(0.5), self.plan.random_range(1..=5));
        if is_closed && rates && self.mix.has(Part::Ratings) {
            let mut rating = Deed::new(What::Rating(csat), None, false);
            self.send(life, &mut rating, is_patient).await;
            life.deeds.push(rating);
        }
    }

    /// What is done next. Each choice takes as many draws as another, so that the plan does not depend on the mix.
    fn next(&mut self, life: &Life) -> What {
        let number = life.deeds.len();
        let (choice, wants_survey) = (self.plan.random_range(0..100), self.plan.random_bool(0.5));
        let said = format!(" <{}> {number} {}", life.user_id, letters(number));
        match choice {
            0..6 if self.mix.has(Part::Files) => What::File(said),
            6..14 if self.mix.has(Part::Receipts) && number > 0 => {
                What::Receipt(u32::try_from(number).unwrap())
            }
            14..16 if self.mix.has(Part::Closes) && number > 0 => What::Close {
                survey: wants_survey && self.mix.has(Part::Surveys),
            },
            _ => What::Text(said),
        }
    }

    /// Sends what bears a key until it has a 2xx or is refused.
    async fn insist(&mut self, life: &mut Life, deed: &mut Deed, until: Instant, is_patient: bool) {
        while !deed.is_settled() {
            if Instant::now() >= until {
                let complaint = format!("{}: no answer for {deed:?}", life.user_id);
                life.complaints.push(complaint);
                return;
            }
            self.send(life, deed, is_patient).await;
            if !deed.is_settled() {
                self.wait_before_repeating().await;
            }
        }
    }

    async fn wait_before_repeating(&mut self) {
        let pause = self.patience.random_range(500..1500);
        sleep(Duration::from_millis(pause)).await;
    }

    /// Sends it once; some have little patience.
    async fn send(&mut self, life: &mut Life, deed: &mut Deed, is_patient: bool) {
        deed.requests += 1;
        let hangs_up = self.patience.random_bool(0.05) && self.mix.has(Part::HangUps);
        let patience = match (is_patient, hangs_up) {
            (true, _) => LONG_PATIENCE,
            (false, true) => Duration::from_millis(self.patience.random_range(1..200)),
            (false, false) => PATIENCE,
        };
        let mut request = deed
            .what
            .request(&self.channel, &life.user_id)
            // Of a connection of its own, so that all replicas are asked.
            .header("connection", "close")
            .timeout(patience);
        if let Some(key) = &deed.key {
            request = request.header("idempotency-key", key);
        }
        if deed.is_async {
            request = request.header("prefer", "respond-async");
        }
        // One without an answer has been told nothing.
        if let Ok(reply) = try_send(request).await
            && let Err(complaint) = deed.hear(&reply)
        {
            life.complaints
                .push(format!("{}: {complaint}", life.user_id));
        }
    }

    /// Says where the user is, as far as an answer tells: what was queued may go elsewhere.
    fn tell_the_agent(&self, life: &Life, deed: &Deed) {
        let last = deed.taken.last().filter(|taken| taken.status == 201);
        let Some(conversation) = last.and_then(|taken| taken.conversation_id.as_ref()) else {
            return;
        };
        let seat = Seat {
            user_id: life.user_id.clone(),
            conversation: conversation.clone(),
        };
        self.seat.send_replace(Some(seat));
    }

    /// Has the user erased; another one takes the place.
    async fn erase(&mut self, life: &mut Life, until: Instant) {
        life.is_ending = true;
        while Instant::now() < until {
            let path = format!("/v1/users/{}", life.user_id);
            let request = self.channel.request(Method::DELETE, &path);
            let request = request.header("connection", "close").timeout(LONG_PATIENCE);
            match try_send(request).await {
                // With 202 the user is gone as well; the conversation is closed a little later.
                Ok(reply) if matches!(reply.status, 202 | 204) => {
                    life.erased_at = Some(Utc::now());
                    self.seat.send_replace(None);
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

/// A number in letters, which no mask takes away.
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
