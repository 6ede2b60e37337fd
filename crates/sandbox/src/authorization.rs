//! The two headers that authorize a connector and name the consumer.

use super::Sandbox;
use super::conversations::Consumer;
use super::recording::RecordedRequest;
use super::refusal::{ErrorCode, Refusal};
use super::sentinel;
use super::tokens::AppClaims;

/// Checks the `Authorization` header, which holds the raw AppJWT.
pub(super) fn app(
    sandbox: &Sandbox,
    account: &str,
    request: &RecordedRequest,
) -> Result<AppClaims, Refusal> {
    let refuse = |reason: &str| Refusal::numbered(ErrorCode::InvalidAppToken, reason);
    let token = request.header("authorization").ok_or_else(|| {
        let reason = "expected `Authorization: <AppJWT>`";
        Refusal::numbered(ErrorCode::MissingAppToken, reason)
    })?;
    if token.to_ascii_lowercase().starts_with("bearer ") {
        return Err(refuse(
            "the Authorization header has the prefix `Bearer `, expected the raw token alone",
        ));
    }
    let shared = &sandbox.0;
    let claims = shared.tokens.app.verify(token).map_err(|e| refuse(&e))?;
    let now = shared.clock.now().timestamp();
    let end = claims.iat + sentinel::LIFETIME;
    if now >= end {
        let reason = format!("it expired at {end}, and the time is {now}");
        return Err(refuse(&reason));
    }
    if claims.aud != account {
        let reason = format!(
            "its aud is `{}`, but the path names account `{account}`",
            claims.aud
        );
        return Err(refuse(&reason));
    }
    Ok(claims)
}

/// Checks both headers. The second, `X-LP-ON-BEHALF`, holds the ConsumerJWS.
pub(super) fn consumer(
    sandbox: &Sandbox,
    account: &str,
    request: &RecordedRequest,
) -> Result<Consumer, Refusal> {
    app(sandbox, account, request)?;
    let refuse = |reason: &str| Refusal::numbered(ErrorCode::InvalidConsumerToken, reason);
    let token = request.header("x-lp-on-behalf").ok_or_else(|| {
        let reason = "expected `X-LP-ON-BEHALF: <ConsumerJWS>`";
        Refusal::numbered(ErrorCode::MissingConsumerToken, reason)
    })?;
    let issuer = &sandbox.0.tokens.consumer;
    let claims = issuer.verify(token).map_err(|e| refuse(&e))?;
    if claims.account != account {
        let reason = format!(
            "its account_id is `{}`, but the path names account `{account}`",
            claims.account
        );
        return Err(refuse(&reason));
    }
    Ok(Consumer {
        account: claims.account,
        ext_consumer_id: claims.ext_consumer_id,
        lp_consumer_id: claims.lp_consumer_id,
    })
}
