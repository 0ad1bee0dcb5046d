//! What Penstock's two services must agree on, and nothing else.
//!
//! `domain` holds the words that both services speak, `wire` what goes over NATS, `secret`, `hidden`, `signatures`,
//! `credentials` and `egress` what guards a delivery, `shares` what keeps one owner from taking all of something, `template` the
//! bodies that customers write, `db` the way to Postgres, `server` the HTTP server, `process` what a service needs to start, to be
//! watched and to stop, and `traces` the spans that it records. The first lines of each say what it is for.
//!
//! # Glossary
//!
//! Each word stands for one thing, in code, logs, metrics and documents alike.
//!
//! | word | what it is |
//! |---|---|
//! | organisation | Who owns keys, endpoints, events and deliveries. |
//! | tenant | One of an organisation's own customers, with events, endpoints and keys of its own. |
//! | owner | Whose something is: a tenant, or the organisation for what is its own. |
//! | realm | What a key is for: all of an organisation, or one of its tenants. |
//! | key | A secret with which a client of an organisation calls the API. |
//! | scope | What a key may do. |
//! | tier | What an organisation pays for: its rate limit. |
//! | event | Something that a producer reported: an id, a type and a payload (`data`). It is never changed. |
//! | frame | Events that travel together in one message of a stream. |
//! | stream | A JetStream stream of frames, `EVENTS-n`. The events of one ordering key are all in one. |
//! | lane | The ingest API's way to one stream: one frame is in flight, and the next one gathers behind it. |
//! | endpoint | Where an organisation wants events, which of them, and how. |
//! | kind | Whether an endpoint's deliveries are sent to its URL (`push`) or fetched by its owner (`pull`). |
//! | target | The kind as a worker holds it: with the settings of a webhook, or without. |
//! | webhook | The request by which a delivery is sent to a URL. |
//! | subscriber | An enabled endpoint, as a worker asks it whether it wants an event. |
//! | scheme | A way of signing webhooks. An endpoint may use several at once. |
//! | credentials | What a webhook shows besides its signatures: a password, a token, a client certificate. |
//! | delivery | One event for one endpoint, from the first attempt to its end. |
//! | attempt | One request to a receiver, and what came of it. |
//! | outcome | How an attempt ended, or why a delivery ended without one. |
//! | receiver | The program behind a webhook's URL. |
//! | plan | The deliveries that events will get, before they are written. |
//! | job | A leased delivery that is about to be sent. |
//! | report | How a job ended, before it is recorded. |
//! | permit | The right to have one more delivery in flight. A worker takes it before it claims. |
//! | lease | The right to finish a delivery, until a time. Results are recorded only under the lease's token. |
//! | claim | Leasing due deliveries from the table. |
//! | gate | What limits an endpoint's deliveries in flight: its permits, its pace and its circuit. |
//! | circuit | Open while an endpoint keeps failing: then one delivery at a time is sent as a probe. |
//! | held | Of an endpoint: only probes are sent, because its circuit is open or its receiver asked to wait. |
//! | parked | Of a pending delivery: it is behind another one of its ordering key, and no claim looks at it. |
//! | put off | Of a delivery: its worker was short of something and could not try it. It waits some seconds; no attempt counts. |
//! | floor | The sequence number of a stream below which every frame is stored. Ordered deliveries wait for it. |
//! | leftover frame | A frame below its consumer's acknowledgement floor that is still in the stream. |
//! | bulky frame | A frame with more deliveries than one statement should write. |
//! | quarantine | The table of frames and events that cannot be read or stored, with their bytes. |
//! | operational event | An event that Penstock itself sends about an endpoint or a quota (`endpoint.failing`, `tenant.quota`, …). |
//! | notice | An operational event that is written down and not stored as an event yet. |
//! | backlog | What waits for workers: events in the streams, and due deliveries that only workers keep back. |
//! | usage | What an organisation, or a tenant, has sent and got delivered in an hour or on a day. |
//! | quota | How many events an organisation, or a tenant, may send in a month. |
//! | recovery | A paced return of an endpoint's finished deliveries to `pending`, as its owner asked for. |
//! | chore | What any worker does now and then: operational events, recoveries, retention. |
//! | console, portal | Pages for the platform's own people, and for those of one tenant. |
//! | session | What lets a person into the console or a portal, for a time. |
//! | span | One step of an event's way in its trace: the request, publishing, storing, an attempt. |
//! | room | Memory or descriptors that requests share, with a bound. |
//! | drain | The time after a stop in which work in progress may end. |

// `println!` and `eprintln!` panic when nobody reads any more.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod domain;
pub mod wire;
pub mod secret;
pub mod hidden;
pub mod signatures;
pub mod credentials;
pub mod egress;
pub mod shares;
pub mod template;
pub mod db;
pub mod server;
pub mod process;
pub mod traces;

#[cfg(test)]
mod fuzz;
