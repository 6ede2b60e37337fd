//! Who may act: whoever bears one of the operators' keys. Where none is configured nobody may.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::Admin;
use crate::api::auth::bearer;
use crate::api::problem::{Code, Problem};
use crate::bridge::Operator;
use crate::crypto::ApiKeyHash;
use crate::types::trace::Trace;

/// The hashes of the operators' keys; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Operators(Arc<[ApiKeyHash]>);

impl Operators {
    pub(super) fn new(keys: Vec<ApiKeyHash>) -> Self {
        Self(keys.into())
    }

    /// Whether somebody may act.
    pub(super) fn may_act(&self) -> bool {
        !self.0.is_empty()
    }

    /// The first digits of the key's hash, if it is an operator's.
    fn identify(&self, presented: &str) -> Option<u32> {
        let presented = ApiKeyHash::of(presented);
        let is_known = presented.is_among(&self.0);
        is_known.then(|| presented.first_digits())
    }
}

/// Proves that the request is an operator's who may act. It comes before the body, so that nobody else is told what is wrong
/// with theirs.
pub(super) struct AuthOperator(pub(super) Operator);

impl FromRequestParts<Admin> for AuthOperator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        if !admin.operators.may_act() {
            let detail = "Without operator_keys in the configuration this address only shows; nobody can act here.";
            return Err(Problem::new(Code::OperatorKeyUnset, detail));
        }
        let presented = bearer(&parts.headers).ok_or_else(|| {
            let detail = "Expected the header Authorization: Bearer OPERATOR_KEY.";
            Problem::new(Code::OperatorKeyRefused, detail)
        })?;
        let digits = admin
            .operators
            .identify(presented)
            .ok_or_else(|| Problem::new(Code::OperatorKeyRefused, "No operator has this key."))?;
        let trace = parts.extensions.get::<Arc<Trace>>();
        let trace =
            trace.ok_or_else(|| Problem::new(Code::InternalError, "The request has no trace."))?;
        Ok(Self(Operator {
            digits,
            trace: Arc::clone(trace),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_known_by_the_first_digits_of_the_keys_hash() {
        let keys = ["old", "new"].map(ApiKeyHash::of).to_vec();
        let operators = Operators::new(keys);

        let digits = |key: &str| Some(ApiKeyHash::of(key).first_digits());
        assert_eq!(operators.identify("old"), digits("old"));
        assert_eq!(operators.identify("new"), digits("new"));
        assert_eq!(operators.identify("New"), None);
        assert!(operators.may_act());
        assert!(!Operators::new(vec![]).may_act());
        assert!(!format!("{operators:?}").contains(&format!("{:?}", digits("old").unwrap())));
    }
}
