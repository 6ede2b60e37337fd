//! The authentication of operators. A caller with one of the operator keys may act; without a
//! configured key, no caller may.

use std::sync::Arc;

use axum::Json as Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Serialize;

use super::Admin;
use crate::api::auth::bearer;
use crate::api::problem::{Code, Problem};
use crate::bridge::Operator;
use crate::crypto::ApiKeyHash;
use crate::types::trace::Trace;

/// The hashes of the operator keys. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Operators(Arc<[ApiKeyHash]>);

impl Operators {
    pub(super) fn new(keys: Vec<ApiKeyHash>) -> Self {
        Self(keys.into())
    }

    /// True if a key is configured, so that operators may act.
    pub(super) fn may_act(&self) -> bool {
        !self.0.is_empty()
    }

    /// Returns the first digits of the key's hash if it is an operator key.
    fn identify(&self, presented: &str) -> Option<u32> {
        let presented = ApiKeyHash::of(presented);
        let is_known = presented.is_among(&self.0);
        is_known.then(|| presented.first_digits())
    }
}

/// The proof that the request comes from an operator. It is extracted before the body, so that a
/// caller without a key learns nothing about errors in its body.
pub(super) struct AuthOperator(pub(super) Operator);

impl FromRequestParts<Admin> for AuthOperator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        if !admin.operators.may_act() {
            let detail = "This address is read-only until operator_keys are configured.";
            return Err(Problem::new(Code::OperatorKeyUnset, detail));
        }
        let presented = bearer(&parts.headers).ok_or_else(|| {
            let detail = "Expected the header Authorization: Bearer OPERATOR_KEY.";
            Problem::new(Code::OperatorKeyRefused, detail)
        })?;
        let digits = admin.operators.identify(presented).ok_or_else(|| {
            Problem::new(
                Code::OperatorKeyRefused,
                "This is not a configured operator key.",
            )
        })?;
        let trace = parts.extensions.get::<Arc<Trace>>();
        let trace =
            trace.ok_or_else(|| Problem::new(Code::InternalError, "The request has no trace."))?;
        Ok(Self(Operator {
            digits,
            trace: Arc::clone(trace),
        }))
    }
}

/// The operator whose key the request presents.
#[derive(Debug, Serialize)]
pub(super) struct OperatorView {
    /// The actor in the entries of the audit log about actions with this key.
    actor: String,
}

/// Checks the key, and changes nothing.
pub(super) async fn show(AuthOperator(operator): AuthOperator) -> Body<OperatorView> {
    let actor = operator.actor().to_string();
    Body(OperatorView { actor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_identified_by_the_first_digits_of_the_key_hash() {
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
