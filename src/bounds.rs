//! Bounds on the work or bytes that are held at once. A channel has a fair share of a bound, and a
//! token for one user has a smaller share.
//!
//! Within the shares, the first request is the first served. Memory use depends on the permits that
//! are held, not on the number of callers: only a channel or a user with a permit has a count.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The maximum amounts that may be held at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// For all holders together.
    pub all: usize,
    /// For one channel.
    pub channel: usize,
    /// For all tokens of one user.
    pub user: usize,
}

/// The holder of a part of a bound. For the Cloud's notifications, the account takes the place of
/// the channel.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The user to whom the caller's token is limited, or the file to which its link leads; `None`
    /// for a caller that may act for all users.
    pub user: Option<&'a str>,
}

/// The limit that has been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitReached {
    /// The whole bound.
    All,
    /// The share of the channel.
    Channel,
    /// The share of the user.
    User,
}

/// A bound with shares. Clones are the same bound.
#[derive(Debug, Clone)]
pub struct Bound(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shares: Shares,
    /// Hashes the names of holders with a key of this process, so that all names take the same
    /// space.
    hasher: RandomState,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// The amounts that are held, by the hashes of channels and users. Only holders have an entry.
    holders: HashMap<u64, usize>,
}

/// A permit for a part of a bound. Dropping the permit releases that part.
#[derive(Debug)]
pub struct BoundPermit {
    bound: Bound,
    channel: u64,
    user: Option<u64>,
    amount: usize,
}

impl Shares {
    /// Creates shares in which a user gets at most `user`. Each of several channels gets at most
    /// three quarters of `all`; a single channel may take all.
    #[must_use]
    pub fn new(all: usize, user: usize, channels: usize) -> Self {
        Self {
            all,
            channel: if channels > 1 { all - all / 4 } else { all },
            user: user.min(all),
        }
    }
}

impl Bound {
    /// Creates a bound of which nothing is in use.
    #[must_use]
    pub fn new(shares: Shares) -> Self {
        Self(Arc::new(Inner {
            shares,
            hasher: RandomState::new(),
            counts: Mutex::default(),
        }))
    }

    /// Acquires a permit for an amount.
    ///
    /// # Errors
    ///
    /// The limit that has been reached. Nothing is acquired then.
    pub fn acquire(&self, holder: Holder<'_>, amount: usize) -> Result<BoundPermit, LimitReached> {
        let hasher = &self.0.hasher;
        let user = holder.user.map(|user| (holder.channel, user));
        let mut permit = BoundPermit {
            bound: self.clone(),
            channel: hasher.hash_one(holder.channel),
            user: user.map(|user| hasher.hash_one(user)),
            amount: 0,
        };
        permit.acquire_more(amount)?;
        Ok(permit)
    }

    /// Returns the amount in use by all holders together.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.counts().all
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        let counts = self.0.counts.lock();
        counts.unwrap_or_else(PoisonError::into_inner)
    }
}

impl BoundPermit {
    /// Returns the amount of the permit.
    #[must_use]
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Acquires a further amount.
    ///
    /// # Errors
    ///
    /// The limit that has been reached. The permit keeps its amount then.
    pub fn acquire_more(&mut self, amount: usize) -> Result<(), LimitReached> {
        if amount == 0 {
            return Ok(());
        }
        let shares = self.bound.0.shares;
        let mut counts = self.bound.counts();
        let used = |holder: u64| counts.holders.get(&holder).copied().unwrap_or_default();
        // The narrowest share comes first, so that a holder learns if it has used up its own share.
        if self
            .user
            .is_some_and(|user| used(user) + amount > shares.user)
        {
            return Err(LimitReached::User);
        }
        if used(self.channel) + amount > shares.channel {
            return Err(LimitReached::Channel);
        }
        if counts.all + amount > shares.all {
            return Err(LimitReached::All);
        }
        counts.all += amount;
        for holder in self.user.into_iter().chain([self.channel]) {
            *counts.holders.entry(holder).or_default() += amount;
        }
        drop(counts);
        self.amount += amount;
        Ok(())
    }
}

impl Drop for BoundPermit {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut counts = self.bound.counts();
        counts.all -= self.amount;
        for holder in self.user.into_iter().chain([self.channel]) {
            if let Entry::Occupied(mut count) = counts.holders.entry(holder) {
                *count.get_mut() -= self.amount;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn channel(channel: &str) -> Holder<'_> {
        Holder {
            channel,
            user: None,
        }
    }

    fn user<'a>(channel: &'a str, user: &'a str) -> Holder<'a> {
        Holder {
            channel,
            user: Some(user),
        }
    }

    /// Acquires permits of 1 until a limit is reached. Returns them and the limit.
    fn acquire_all(bound: &Bound, holder: Holder<'_>) -> (Vec<BoundPermit>, LimitReached) {
        let mut permits = Vec::new();
        loop {
            match bound.acquire(holder, 1) {
                Ok(permit) => permits.push(permit),
                Err(limit) => return (permits, limit),
            }
        }
    }

    #[test]
    fn a_user_has_a_share_and_a_channel_at_most_three_quarters() {
        let bound = Bound::new(Shares::new(16, 2, 2));

        let (mallory, limit) = acquire_all(&bound, user("a", "mallory"));
        assert_eq!((mallory.len(), limit), (2, LimitReached::User));
        // A user of the same name in another channel is another user.
        let (namesake, _) = acquire_all(&bound, user("b", "mallory"));
        assert_eq!(namesake.len(), 2);
        let (of_channel, limit) = acquire_all(&bound, channel("a"));
        assert_eq!((of_channel.len(), limit), (10, LimitReached::Channel));
        let refused = bound.acquire(user("a", "ada"), 1);
        assert_eq!(refused.unwrap_err(), LimitReached::Channel);
        let (others, limit) = acquire_all(&bound, channel("b"));
        assert_eq!((others.len(), limit), (2, LimitReached::All));
        assert_eq!(bound.in_use(), 16);
    }

    #[test]
    fn a_single_channel_may_use_the_whole_bound() {
        let bound = Bound::new(Shares::new(16, 2, 1));

        let (permits, limit) = acquire_all(&bound, channel("a"));

        assert_eq!(limit, LimitReached::Channel);
        assert_eq!(permits.len(), 16);
    }

    #[test]
    fn a_permit_that_cannot_grow_keeps_its_amount() {
        let bound = Bound::new(Shares::new(16, 16, 1));
        let mut permit = bound.acquire(channel("a"), 10).unwrap();

        assert_eq!(permit.acquire_more(7), Err(LimitReached::Channel));
        assert_eq!(bound.in_use(), 10);
        assert_eq!(permit.acquire_more(6), Ok(()));
        assert_eq!(bound.in_use(), 16);
        drop(permit);
        assert_eq!(bound.in_use(), 0);
    }

    #[test]
    fn a_holder_without_permits_takes_no_memory() {
        let bound = Bound::new(Shares::new(16, 2, 2));
        let (permits, _) = acquire_all(&bound, user("a", "ada"));
        for number in 0..1000 {
            let passing = number.to_string();
            drop(bound.acquire(user(&passing, &passing), 1));
            drop(bound.acquire(user("a", &passing), 100));
        }

        // Only Ada and Ada's channel remain.
        assert_eq!(bound.counts().holders.len(), 2);
        drop(permits);
        assert!(bound.counts().holders.is_empty());
    }

    proptest! {
        #[test]
        fn no_share_is_ever_exceeded(
            steps in prop::collection::vec((0..3_usize, 0..4_usize, 1..5_usize, any::<bool>()), 1..100),
        ) {
            let shares = Shares::new(20, 4, 3);
            let bound = Bound::new(shares);
            let names = ["a", "b", "c", "d"];
            let mut permits: Vec<(usize, usize, usize, BoundPermit)> = Vec::new();
            for (of_channel, of_user, amount, drops) in steps {
                let holder = Holder { channel: names[of_channel], user: names[..3].get(of_user).copied() };
                match bound.acquire(holder, amount) {
                    Ok(permit) => permits.push((of_channel, of_user, amount, permit)),
                    Err(_) if drops && !permits.is_empty() => drop(permits.swap_remove(amount % permits.len())),
                    Err(_) => {}
                }
                let sum = |is_of: &dyn Fn(usize, usize) -> bool| -> usize {
                    let of = permits.iter().filter(|(channel, user, ..)| is_of(*channel, *user));
                    of.map(|(.., amount, _)| amount).sum()
                };
                prop_assert_eq!(bound.in_use(), sum(&|_, _| true));
                prop_assert!(bound.in_use() <= shares.all);
                for channel in 0..3 {
                    prop_assert!(sum(&|of, _| of == channel) <= shares.channel);
                    for user in 0..3 {
                        prop_assert!(sum(&|of, by| of == channel && by == user) <= shares.user);
                    }
                }
            }
            drop(permits);
            prop_assert!(bound.counts().holders.is_empty());
        }
    }
}
