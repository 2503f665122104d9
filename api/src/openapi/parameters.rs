//! What each extractor of queries and headers understands, with the bounds that it holds to.

use serde_json::json;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{KnownFormat, Required, SchemaFormat};

use crate::extract::{
    ChangesQuery, CommandContext, ExplainQuery, FeedQuery, IDEMPOTENCY_KEY_MAX_CHARS, LIMIT_MAX,
    LIMIT_TWEETS, LIMIT_USERS, SKIP_MAX, TweetQuery, UserQuery, WINDOW_MAX,
};
use crate::handlers::stream::{LastEventId, Listener};
use crate::position::MinPosition;

/// What a type takes from a request.
macro_rules! takes {
    ($what:ty: $($parameter:expr),+ $(,)?) => {
        impl IntoParams for $what {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$($parameter),+]
            }
        }
    };
}

takes!(UserQuery: skip(), limit(LIMIT_USERS), query("after", "Only users above this id.", integer(0)));
takes!(TweetQuery: skip(), limit(LIMIT_TWEETS), query("before", "Only tweets below this id.", integer(1)));
takes!(FeedQuery:
    skip(),
    limit(LIMIT_TWEETS),
    query("before", "The items below this tweet.", integer(1)),
    query("after", "The items next above this tweet; without `skip`, `before` and `at`.", integer(0)),
    query("at", "The feed as it was: a position of the log, or a time as in RFC 3339.", text()),
);
takes!(ChangesQuery:
    required(query("from", "Since when: a position of the log, or a time as in RFC 3339.", text())),
    query("limit", "How many of the newest items the client holds.", count(LIMIT_TWEETS, WINDOW_MAX)),
);
takes!(ExplainQuery:
    required(query("tweet", "The tweet.", integer(1))),
    query("at", "As of when: a position of the log, or a time as in RFC 3339.", text()),
);
takes!(Listener: query("ticket", "A ticket, for clients that cannot set headers.", text()));
takes!(LastEventId:
    header("Last-Event-ID", "The position after which the stream goes on.", integer(0)),
    query("last_event_id", "The same, for clients that cannot set headers.", integer(0)),
);
takes!(MinPosition:
    header("X-Min-Log-Position", "The answer is at least as new as this position of the log.", integer(0)),
);
takes!(CommandContext:
    header(
        "Idempotency-Key",
        "The same key with the same body from the same caller gets the first answer again.",
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(IDEMPOTENCY_KEY_MAX_CHARS)),
    ),
);

fn skip() -> Parameter {
    let schema = integer(0).maximum(Some(SKIP_MAX)).default(Some(json!(0)));
    query("skip", "So many are passed over; a cursor goes on without end.", schema)
}

fn limit(default: i64) -> Parameter {
    query("limit", "At most so many.", count(default, LIMIT_MAX))
}

fn count(default: i64, most: i64) -> ObjectBuilder {
    integer(1).maximum(Some(most)).default(Some(json!(default)))
}

fn integer(least: i64) -> ObjectBuilder {
    let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
    ObjectBuilder::new().schema_type(Type::Integer).format(Some(format)).minimum(Some(least))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn query(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    parameter(name, ParameterIn::Query, description, schema.build())
}

fn header(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    parameter(name, ParameterIn::Header, description, schema.build())
}

fn parameter(name: &str, place: ParameterIn, description: &str, schema: Object) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn required(mut parameter: Parameter) -> Parameter {
    parameter.required = Required::True;
    parameter
}
