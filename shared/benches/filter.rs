//! Filters: `cargo bench -p shared --bench filter`.

use std::sync::Arc;

use divan::Bencher;
use shared::domain::filter::{Asked, FilterSet, PayloadFilter};

fn main() {
    divan::main();
}

/// An order of about `bytes`, with lines as they are in shops.
fn payload(bytes: usize) -> String {
    let line = |number: usize| {
        format!(
            r#"{{"sku":"AB-{number:05}","title":"A thing of beauty \u00e9","quantity":{},"price":"{}.99","taxable":true}}"#,
            number % 7,
            number % 90
        )
    };
    let mut lines = Vec::new();
    while lines.iter().map(String::len).sum::<usize>() + 300 < bytes {
        lines.push(line(lines.len()));
    }
    format!(
        r#"{{"id":450789469,"total":120.50,"currency":"EUR","shop":{{"id":7,"name":"north"}},"customer":{{"email":"eva@example.com","country":"CH"}},"lines":[{}],"test":false,"note":null}}"#,
        lines.join(",")
    )
}

/// Eight conditions, all of which hold.
fn filter(number: usize) -> Arc<PayloadFilter> {
    let filter = format!(
        r#"{{"/total":{{"gte":100,"lt":50{number}}},"/currency":{{"in":["EUR","CHF"]}},"/shop/id":7,"/test":{{"ne":true}},
            "/lines/{number}/sku":{{"exists":true}},"/customer/country":{{"ne":"US{number}"}},"/missing":{{"exists":false}}}}"#
    );
    Arc::new(PayloadFilter::parse(&filter).expect("it is a filter"))
}

/// Whether all of the filters match.
fn judge(set: &FilterSet, endpoints: usize, data: &[u8]) -> bool {
    let Ok(mut scan) = set.scan(data) else {
        return false;
    };
    if scan.advance(usize::MAX).is_err() {
        return false;
    }
    let values = scan.into_values();
    let asked = Asked {
        event_type: "order.created",
        tenant: Some("acme"),
        values: Some(&values),
    };
    (0..endpoints).all(|number| {
        set.judge(number, asked)
            .is_some_and(|judging| judging.finish().passes)
    })
}

#[divan::bench(args = [(1, 4), (10, 4), (1_000, 4), (10, 256), (1_000, 256)])]
fn endpoints_with_eight_conditions_and_kibibytes(
    bencher: Bencher<'_, '_>,
    (endpoints, kibibytes): (usize, usize),
) {
    let data = payload(kibibytes << 10);
    let set = FilterSet::new((0..endpoints).map(|number| filter(number % 10)).collect());
    assert!(judge(&set, endpoints, data.as_bytes()));
    bencher.bench_local(|| judge(&set, endpoints, data.as_bytes()));
}

/// Eight conditions of every kind, all of which are asked.
fn nested_filter(number: usize) -> Arc<PayloadFilter> {
    let filter = format!(
        r#"{{"type":{{"prefix":"order."}},"tenant":{{"ne":"t{number}"}},"all":[{{"/customer/email":{{"suffix":"@EXAMPLE.com",
            "ignore_case":true}}}},{{"not":{{"/shop/name":{{"contains":"south{number}"}}}}}}],
            "any":[{{"/total":{{"gt":50{number}}}}},{{"/currency":{{"in":["usd","gbp"],"ignore_case":true}}}},
            {{"/lines/{number}/title":{{"contains":"BEAUTY","ignore_case":true}}}}],"/test":{{"ne":true}}}}"#
    );
    Arc::new(PayloadFilter::parse(&filter).expect("it is a filter"))
}

#[divan::bench(args = [(1, 4), (10, 4), (1_000, 4), (10, 256)])]
fn endpoints_with_eight_nested_conditions_and_kibibytes(
    bencher: Bencher<'_, '_>,
    (endpoints, kibibytes): (usize, usize),
) {
    let data = payload(kibibytes << 10);
    let set = FilterSet::new((0..endpoints).map(|number| nested_filter(number % 10)).collect());
    assert!(judge(&set, endpoints, data.as_bytes()));
    bencher.bench_local(|| judge(&set, endpoints, data.as_bytes()));
}

/// 40 filters of 3.6 KB with a pointer of 1 800 steps, and a payload of nothing but names that they ask about.
#[divan::bench]
fn hostile_filters_and_256_kibibytes(bencher: Bencher<'_, '_>) {
    let filter = |number: usize| {
        let filter = format!(r#"{{"{}":1,"/a":{number}}}"#, "/a".repeat(1_780));
        Arc::new(PayloadFilter::parse(&filter).expect("it is a filter"))
    };
    let set = FilterSet::new((0..40).map(filter).collect());
    let data = format!(r#"{{{}"b":1}}"#, r#""a":1,"#.repeat(43_000));
    bencher.bench_local(|| judge(&set, 40, data.as_bytes()));
}
