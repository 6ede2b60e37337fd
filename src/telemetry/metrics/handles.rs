//! Handles of metrics, by the values of their labels.
//!
//! The recorder finds a metric by a key that owns all of its labels, so each count would have to
//! copy them first. Here a metric that was counted before is found by borrowed labels.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// The handles of the metrics of one type.
pub(super) struct Handles<H>(RwLock<Node<H>>);

/// A node of the tree of handles. The path to it consists of a metric's name and of label values.
struct Node<H> {
    handle: Option<H>,
    children: HashMap<String, Self>,
}

impl<H: Clone> Handles<H> {
    /// Returns the handle of a metric with these labels. An unknown handle is created.
    pub(super) fn get(&self, name: &str, labels: &[&str], make: impl FnOnce() -> H) -> H {
        let path = || std::iter::once(name).chain(labels.iter().copied());
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = path().try_fold(&*known, |node, part| node.children.get(part));
        if let Some(handle) = found.and_then(|node| node.handle.as_ref()) {
            return handle.clone();
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let node = path().fold(&mut *known, |node, part| {
            node.children.entry(part.to_owned()).or_default()
        });
        node.handle.get_or_insert_with(make).clone()
    }
}

impl<H> Default for Handles<H> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<H> Default for Node<H> {
    fn default() -> Self {
        Self {
            handle: None,
            children: HashMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_made_once_for_each_name_and_labels() {
        let handles = Handles::default();
        let get = |name, labels: &[&str], fresh| handles.get(name, labels, || fresh);

        assert_eq!(get("requests", &["GET", "200"], 1), 1);
        assert_eq!(get("requests", &["GET"], 2), 2);
        assert_eq!(get("requests", &["200", "GET"], 3), 3);
        assert_eq!(get("others", &["GET", "200"], 4), 4);
        assert_eq!(get("others", &[], 5), 5);

        assert_eq!(get("requests", &["GET", "200"], 6), 1);
        assert_eq!(get("requests", &["GET"], 6), 2);
        assert_eq!(get("others", &[], 6), 5);
    }
}
