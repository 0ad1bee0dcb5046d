//! The schema of signature schemes in a form, for the OpenAPI document.

use serde_json::Value;
use shared::signatures::MAX_SCHEMES;
use shared::signatures::hmac::{MAX_SECRET_BYTES, SignatureEncoding, SignatureHash};
use shared::signatures::template::MAX_BYTES;
use utoipa::openapi::Schema;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, SchemaType,
    Type,
};

const HEADER: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

/// A list of schemes.
pub(crate) fn schema() -> Schema {
    let names: [&[&str]; 3] = [
        &["standard", "ed25519"],
        &["hmac"],
        &["github", "stripe", "shopify", "slack"],
    ];
    let [plain, hmac, preset] = names.map(scheme);
    let either = OneOfBuilder::new()
        .item(plain)
        .item(with_secret(with_shape(hmac)).required("header"))
        .item(with_secret(preset));
    let list = ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(either)
        .min_items(Some(1))
        .max_items(Some(MAX_SCHEMES))
        .description(Some(
            "The schemes that webhooks are signed with, all of them at once; `standard` unless given. One of them must be \
             without `until`. A change replaces the whole list; in it `ed25519` keeps its key pair, and a header keeps its \
             secret when none is given. Only for the kind `push`.",
        ));
    list.into()
}

fn scheme(names: &[&str]) -> ObjectBuilder {
    let name = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(names.iter().map(|name| Value::from(*name))));
    let until = text(None)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some("From then on the scheme is left out."));
    ObjectBuilder::new()
        .property("scheme", name)
        .required("scheme")
        .property("until", until)
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
}

fn with_shape(scheme: ObjectBuilder) -> ObjectBuilder {
    let named = |names: Vec<&'static str>| {
        let names = names.into_iter().map(Value::from).chain([Value::Null]);
        text(None).enum_values(Some(names))
    };
    let header = || text(Some(HEADER));
    let hashes = SignatureHash::ALL.iter().map(|hash| hash.as_str()).collect();
    let encodings = SignatureEncoding::ALL
        .iter()
        .map(|encoding| encoding.as_str())
        .collect();
    scheme
        .property(
            "header",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some(HEADER))
                .description(Some("The header of the signature.")),
        )
        .property("hash", named(hashes).description(Some("`sha256` unless given.")))
        .property(
            "encoding",
            named(encodings).description(Some("`hex` unless given.")),
        )
        .property(
            "prefix",
            text(Some(
                r"^(([!-z|~]|\{(timestamp|id)\})([ -z|~]|\{(timestamp|id)\})*)?$",
            ))
            .max_length(Some(MAX_BYTES))
            .description(Some(
                "What stands before the signature, with `{timestamp}` and `{id}`; nothing unless given.",
            )),
        )
        .property(
            "signed",
            text(Some(
                r"^([^{}]|\{(timestamp|id)\})*\{body\}([^{}]|\{(timestamp|id|body)\})*$",
            ))
            .max_length(Some(MAX_BYTES))
            .description(Some(
                "What is signed, with `{body}`, `{timestamp}` and `{id}`; `{body}` unless given.",
            )),
        )
        .property(
            "timestamp_header",
            header().description(Some("A further header with the time, in Unix seconds.")),
        )
}

fn with_secret(scheme: ObjectBuilder) -> ObjectBuilder {
    let secret = text(None)
        .min_length(Some(1))
        .max_length(Some(MAX_SECRET_BYTES))
        .description(Some("The secret; its bytes are the key."));
    let bytes = text(Some("^[A-Za-z0-9+/]+={0,2}$"))
        .description(Some("The secret as bytes, in base64, in place of `secret`."));
    scheme.property("secret", secret).property("secret_base64", bytes)
}

fn text(pattern: Option<&str>) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .pattern(pattern)
}
