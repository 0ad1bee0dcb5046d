//! The schema of credentials in a form, for the OpenAPI document.

use serde_json::Value;
use shared::credentials::certificate::MAX_PEM_BYTES;
use shared::credentials::{ClientAuth, MAX_BYTES, MAX_TOKEN_BYTES};
use utoipa::openapi::Schema;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, OneOfBuilder, SchemaType, Type};

const PEM: &str = "-----BEGIN [A-Z0-9 ]+-----";

/// Credentials of any kind, or null.
pub(crate) fn schema() -> Schema {
    let text = || {
        plain()
            .max_length(Some(MAX_BYTES))
            .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$"))
    };
    let pem = || plain().max_length(Some(MAX_PEM_BYTES)).pattern(Some(PEM));
    let basic = kind("basic")
        .property(
            "username",
            text().pattern(Some(r"^[^:\u0000-\u001f\u007f-\u009f]*$")),
        )
        .property("password", text())
        .required("username")
        .required("password");
    let token = plain()
        .min_length(Some(1))
        .max_length(Some(MAX_TOKEN_BYTES))
        .pattern(Some("^[!-~]+$"));
    let bearer = kind("bearer").property("token", token).required("token");
    let mtls = kind("mtls")
        .property(
            "certificate",
            pem().description(Some("The certificate, and those between it and an authority.")),
        )
        .property("key", pem().description(Some("Its private key, unencrypted.")))
        .property(
            "ca",
            or_null(pem()).description(Some(
                "The authorities that the receiver's certificate may come from; the system's unless given.",
            )),
        )
        .required("certificate")
        .required("key");
    let none = ObjectBuilder::new().schema_type(Type::Null);
    OneOfBuilder::new()
        .item(basic)
        .item(bearer)
        .item(client())
        .item(mtls)
        .item(none)
        .description(Some(
            "What requests show besides their signature; nothing unless given. It is stored encrypted, and what is secret is \
             not shown again. A change replaces all of it. Only for the kind `push`.",
        ))
        .into()
}

fn client() -> ObjectBuilder {
    let text = || {
        plain()
            .min_length(Some(1))
            .max_length(Some(MAX_BYTES))
            .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]+$"))
    };
    let places = ClientAuth::ALL.iter().map(|place| Value::from(place.as_str()));
    let place = or_null(plain()).enum_values(Some(places.chain([Value::Null])));
    kind("oauth2_client_credentials")
        .property(
            "token_url",
            plain()
                .pattern(Some("^[Hh][Tt][Tt][Pp][Ss]?://"))
                .description(Some(
                    "Where tokens come from: http or https, to a public address.",
                )),
        )
        .property("client_id", text())
        .property("client_secret", text())
        .property(
            "scope",
            or_null(text())
                .pattern(Some("^[ -~]+$"))
                .description(Some("What the token is to allow.")),
        )
        .property(
            "audience",
            or_null(text()).description(Some("Whom the token is for.")),
        )
        .property(
            "client_auth",
            place.description(Some(
                "Where id and secret stand in the request; `basic` unless given.",
            )),
        )
        .required("token_url")
        .required("client_id")
        .required("client_secret")
}

fn kind(name: &str) -> ObjectBuilder {
    let name = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some([name]));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("kind", name)
        .required("kind")
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
}

fn plain() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn or_null(text: ObjectBuilder) -> ObjectBuilder {
    text.schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}
