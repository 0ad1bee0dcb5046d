//! The headers of a webhook, as Standard Webhooks 1.0.0 describes them, and as the endpoint asks for.

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use shared::traces::parent::TraceParent;
use time::OffsetDateTime;

use crate::endpoints::endpoint::Endpoint;
use crate::send::content::Content;
use crate::send::content::body::Outgoing;
use crate::send::signing::schemes::Message;

/// The headers of an attempt at this time, but for those of credentials. `span` is the attempt's, when it is recorded.
pub(crate) fn headers(
    event: &Outgoing,
    endpoint: &Endpoint,
    content: &Content,
    now: OffsetDateTime,
    span: Option<TraceParent>,
) -> HeaderMap {
    let timestamp = now.unix_timestamp();
    let body = &content.body;
    // The owner's headers first: ours replace those of the same name. Signatures last: their headers may have nearly any name, such
    // as `baggage`.
    let mut headers = endpoint.headers.clone();
    headers.insert(CONTENT_TYPE, content.media_type.clone());
    event.trace.write(span, &mut headers);
    let mut set = |name, value: String| {
        let value = HeaderValue::try_from(value).expect("what is set here is ASCII");
        headers.insert(HeaderName::from_static(name), value);
    };
    set("webhook-id", event.id.to_string());
    set("webhook-timestamp", timestamp.to_string());
    if let Some(schemes) = &endpoint.schemes {
        let (id, body) = (event.id, &body[..]);
        let message = Message { id, timestamp, body };
        schemes.sign(&endpoint.signer, message, &mut headers);
    } else {
        set(
            "webhook-signature",
            endpoint.signer.sign(event.id, timestamp, body),
        );
    }
    headers
}
