//! Lists: filters, order, pages that meet.

use fanfare_core::{MessageId, Settlement};
use fanfare_history::{
    AttemptFilter, AttemptStatus, DeadLetterFilter, DeliveryFilter, MessageFilter, Page, Pointer, QueryError,
    Standing, StatusClass, Window,
};
use serde_json::json;

use crate::{
    tables::{Tables, on_every_database},
    world::{Publish, Running, World, application, at, attempt, endpoint, settled},
};

on_every_database! {
    messages_are_filtered_and_paged,
    attempts_are_filtered_and_paged,
    deliveries_and_dead_letters_are_filtered_and_paged,
    dead_letters_of_many_endpoints_are_merged,
    what_is_rare_is_found_behind_many_others,
}

const MESSAGES: i64 = 60;

/// Messages of two kinds; every third fails for good, every seventh succeeds at the second attempt.
async fn filled(tables: Tables) -> (World, Running, Vec<MessageId>) {
    let mut world = World::new(tables);
    let running = world.start().await;
    let mut ids = Vec::new();
    for number in 0..MESSAGES {
        let mut publish = Publish::at(number * 10, &[1, 2]);
        publish.event_type = if number % 4 == 0 { "order.new" } else { "order.paid" };
        publish.channels = if number % 5 == 0 { vec!["a".to_owned(), "b".to_owned()] } else { Vec::new() };
        publish.tags = if number % 6 == 0 { vec!["t".to_owned()] } else { Vec::new() };
        publish.payload = json!({ "order": { "lines": [{ "price": number % 3 }] } }).to_string();
        let published = world.publish(&publish).await;
        ids.push(published.id);
        let time = at(1_000 + number * 10);
        let mut facts = Vec::new();
        match number {
            number if number % 3 == 0 => {
                facts.push(attempt(1, published.delivery, 1, 404, time));
                facts.push(settled(1, published.delivery, Settlement::Rejected, at(2_000 + number)));
            }
            number if number % 7 == 0 => {
                facts.push(attempt(1, published.delivery, 1, 0, time));
                facts.push(attempt(1, published.delivery, 2, 200, at(5_000 + number)));
            }
            _ => facts.push(attempt(1, published.delivery, 1, 200, time)),
        }
        world.facts(facts).await;
    }
    running.caught_up().await;
    (world, running, ids)
}

/// Reads all pages forwards, then back from the last: the same, in either order and for any size.
async fn pages_meet<T: std::fmt::Debug + PartialEq + Clone>(
    expected: &[T],
    page: impl AsyncFn(&Window) -> Result<Page<T>, QueryError>,
) {
    pages_of(&[1, 7, 250], expected, page).await;
}

async fn pages_of<T: std::fmt::Debug + PartialEq + Clone>(
    limits: &[usize],
    expected: &[T],
    page: impl AsyncFn(&Window) -> Result<Page<T>, QueryError>,
) {
    for descending in [false, true] {
        let mut in_order = expected.to_vec();
        if descending {
            in_order.reverse();
        }
        for &limit in limits {
            let (mut seen, mut window) = (Vec::new(), Window::new(limit, None, descending));
            let mut last;
            loop {
                last = page(&window).await.unwrap();
                assert!(last.items.len() <= limit);
                seen.extend(last.items.clone());
                if last.done {
                    break;
                }
                window = Window::new(limit, last.iterator.as_deref(), descending);
            }
            assert_eq!(seen, in_order, "limit {limit}, descending {descending}");
            let mut seen: Vec<T> = last.items.iter().rev().cloned().collect();
            while let Some(back) = last.prev_iterator.clone() {
                last = page(&Window::new(limit, Some(&back), descending)).await.unwrap();
                seen.extend(last.items.iter().rev().cloned());
                if last.done {
                    break;
                }
            }
            seen.reverse();
            assert_eq!(seen, in_order, "backwards, limit {limit}, descending {descending}");
        }
    }
}

async fn messages_are_filtered_and_paged(tables: Tables) {
    let (world, running, ids) = filled(tables).await;
    let history = &running.history;
    let every = |step: usize| ids.iter().step_by(step).copied().collect::<Vec<_>>();
    let of_types = |types: &[&str]| MessageFilter {
        event_types: types.iter().map(|event_type| (*event_type).to_owned()).collect(),
        ..MessageFilter::default()
    };
    let many: Vec<String> = (0..20).map(|number| format!("order.{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain(["order.new"]).collect();
    let filters = [
        (MessageFilter::default(), ids.clone()),
        (of_types(&["order.new"]), every(4)),
        (of_types(&["order.new", "order.paid", "order.new"]), ids.clone()),
        (of_types(&many), every(4)),
        (MessageFilter { tag: Some("t".to_owned()), ..of_types(&["order.new"]) }, every(12)),
        (MessageFilter { channel: Some("b".to_owned()), ..MessageFilter::default() }, every(5)),
        (MessageFilter { tag: Some("t".to_owned()), ..MessageFilter::default() }, every(6)),
        (
            MessageFilter { after: Some(at(100)), before: Some(at(200)), ..MessageFilter::default() },
            ids[10..20].to_vec(),
        ),
        (
            MessageFilter {
                payload: Some(Pointer { pointer: "/order/lines/0/price".to_owned(), value: json!(0) }),
                ..MessageFilter::default()
            },
            every(3),
        ),
        (MessageFilter { channel: Some("none".to_owned()), ..MessageFilter::default() }, Vec::new()),
    ];
    for (filter, expected) in filters {
        pages_meet(&expected, async |window: &Window| {
            Ok(history.messages(application(1), &filter, window).await?.map(|row| row.id))
        })
        .await;
    }
    let wrong = history
        .messages(application(1), &MessageFilter::default(), &Window::new(1, Some("msg_no"), false))
        .await;
    assert!(matches!(wrong, Err(QueryError::Iterator)), "{wrong:?}");
    running.end(&world).await;
}

async fn attempts_are_filtered_and_paged(tables: Tables) {
    let (world, running, _) = filled(tables).await;
    let history = &running.history;
    let all = history
        .attempts_of_endpoint(endpoint(1), &AttemptFilter::default(), &Window::new(250, None, false))
        .await;
    let all = all.unwrap().items;
    assert_eq!(all.len(), 60 + (0..60).filter(|number| number % 3 != 0 && number % 7 == 0).count());
    assert!(all.is_sorted_by_key(|row| row.id));
    let filters = [
        AttemptFilter::default(),
        AttemptFilter { statuses: vec![AttemptStatus::Delivered], ..AttemptFilter::default() },
        AttemptFilter { statuses: vec![AttemptStatus::Retrying], ..AttemptFilter::default() },
        AttemptFilter {
            statuses: vec![AttemptStatus::Retrying, AttemptStatus::Failed],
            ..AttemptFilter::default()
        },
        AttemptFilter { class: StatusClass::new(400), ..AttemptFilter::default() },
        AttemptFilter {
            class: StatusClass::new(0),
            statuses: vec![AttemptStatus::Failed],
            ..AttemptFilter::default()
        },
        AttemptFilter { before: Some(at(1_305)), after: Some(at(1_100)), ..AttemptFilter::default() },
        AttemptFilter {
            message: MessageFilter { event_types: vec!["order.new".to_owned()], ..MessageFilter::default() },
            ..AttemptFilter::default()
        },
    ];
    for filter in filters {
        let expected: Vec<_> = all
            .iter()
            .filter(|row| {
                (filter.statuses.is_empty() || filter.statuses.contains(&row.status))
                    && filter
                        .class
                        .is_none_or(|class| Some(class) == StatusClass::new(row.http_status / 100 * 100))
                    && filter.before.is_none_or(|before| row.at < before)
                    && filter.after.is_none_or(|after| row.at >= after)
                    && (filter.message.event_types.is_empty()
                        || filter.message.event_types.contains(&row.message.event_type))
            })
            .map(|row| row.id)
            .collect();
        pages_meet(&expected, async |window: &Window| {
            Ok(history.attempts_of_endpoint(endpoint(1), &filter, window).await?.map(|row| row.id))
        })
        .await;
    }
    running.end(&world).await;
}

async fn deliveries_and_dead_letters_are_filtered_and_paged(tables: Tables) {
    let (world, running, ids) = filled(tables).await;
    let history = &running.history;
    let rejected = Standing::Settled(Settlement::Rejected);
    let delivered = Standing::Settled(Settlement::Delivered);
    let dead: Vec<_> = ids.iter().step_by(3).copied().collect();
    let alive: Vec<_> = ids.iter().copied().filter(|id| !dead.contains(id)).collect();
    for (standings, expected) in [
        (Vec::new(), &ids),
        (vec![rejected], &dead),
        (vec![delivered], &alive),
        (vec![delivered, rejected], &ids),
        (vec![rejected, Standing::Pending], &dead),
    ] {
        let filter = DeliveryFilter { standings, ..DeliveryFilter::default() };
        pages_meet(expected, async |window: &Window| {
            Ok(history.deliveries_of_endpoint(endpoint(1), &filter, window).await?.map(|row| row.message.id))
        })
        .await;
    }
    let filter = DeliveryFilter {
        message: MessageFilter { after: Some(at(100)), before: Some(at(200)), ..MessageFilter::default() },
        ..DeliveryFilter::default()
    };
    pages_meet(&ids[10..20], async |window: &Window| {
        Ok(history.deliveries_of_endpoint(endpoint(1), &filter, window).await?.map(|row| row.message.id))
    })
    .await;
    // By the class of the last answer: what came to 200 in the end is not of the first one.
    for (class, expected) in [(400, &dead), (200, &alive), (0, &Vec::new())] {
        let filter = DeliveryFilter { class: StatusClass::new(class), ..DeliveryFilter::default() };
        pages_meet(expected, async |window: &Window| {
            Ok(history.deliveries_of_endpoint(endpoint(1), &filter, window).await?.map(|row| row.message.id))
        })
        .await;
    }
    let filter = DeadLetterFilter { reasons: vec![Settlement::Rejected], ..DeadLetterFilter::default() };
    pages_meet(&dead, async |window: &Window| {
        let page = history.dead_letters(&[endpoint(2), endpoint(1)], &filter, window).await?;
        Ok(page.map(|row| row.message.id))
    })
    .await;
    let filter =
        DeadLetterFilter { after: Some(at(2_012)), before: Some(at(2_024)), ..DeadLetterFilter::default() };
    let some = history.dead_letters(&[endpoint(1)], &filter, &Window::new(50, None, false)).await.unwrap();
    assert_eq!(
        some.items.iter().map(|row| row.message.id).collect::<Vec<_>>(),
        [ids[12], ids[15], ids[18], ids[21]]
    );
    running.end(&world).await;
}

/// Many of them settled at one time, many endpoints without any.
async fn dead_letters_of_many_endpoints_are_merged(tables: Tables) {
    const SETTLED: i64 = 3_000;
    let mut world = World::new(tables);
    let running = world.start().await;
    let endpoints: Vec<u32> = (1..=20).collect();
    let mut dead = Vec::new();
    for number in 0..MESSAGES {
        let mut publish = Publish::at(number * 10, &endpoints);
        publish.event_type = if number % 4 == 0 { "order.new" } else { "order.paid" };
        let published = world.publish(&publish).await;
        let mut facts = Vec::new();
        // The first one has them all, the others one of three.
        for &at_endpoint in endpoints.iter().filter(|&&e| e == 1 || (number + i64::from(e)) % 3 == 0) {
            let status = if number % 2 == 0 { 404 } else { 503 };
            facts.push(attempt(at_endpoint, published.delivery, 1, status, at(1_000 + number * 10)));
            let settled_at = SETTLED + number * 2;
            facts.push(settled(at_endpoint, published.delivery, Settlement::Rejected, at(settled_at)));
            // Ids and order know steps of 4 ms.
            let place = (settled_at / 4, at_endpoint, published.delivery);
            dead.push((place, (published.id, at_endpoint), publish.event_type, status));
        }
        world.facts(facts).await;
    }
    running.caught_up().await;
    dead.sort_by_key(|(place, ..)| *place);
    let history = &running.history;
    let all: Vec<_> = (1..=150).rev().map(endpoint).collect();
    let class =
        |class: u16| DeadLetterFilter { class: StatusClass::new(class), ..DeadLetterFilter::default() };
    let of_type = MessageFilter { event_types: vec!["order.new".to_owned()], ..MessageFilter::default() };
    for filter in [
        DeadLetterFilter::default(),
        class(400),
        DeadLetterFilter { reasons: vec![Settlement::Rejected], ..class(500) },
        DeadLetterFilter { message: of_type, ..DeadLetterFilter::default() },
        class(300),
    ] {
        let expected = dead.iter().filter(|(_, _, event_type, status)| {
            filter.class.is_none_or(|class| Some(class) == StatusClass::new(status / 100 * 100))
                && (filter.message.event_types.is_empty() || *event_type == "order.new")
        });
        let expected: Vec<_> = expected.map(|(_, dead, ..)| *dead).collect();
        pages_of(&[64, 250], &expected, async |window: &Window| {
            let page = history.dead_letters(&all, &filter, window).await?;
            Ok(page.map(|row| (row.message.id, row.endpoint.0)))
        })
        .await;
    }
    running.end(&world).await;
}

/// More of them than one read looks at, and several at any one time.
async fn what_is_rare_is_found_behind_many_others(tables: Tables) {
    const MANY: i64 = 700;
    let mut world = World::new(tables);
    let running = world.start().await;
    let (mut all, mut rare) = (Vec::new(), Vec::new());
    let mut facts = Vec::new();
    for number in 0..MANY {
        let mut publish = Publish::at(number * 10, &[1]);
        if number % 320 == 5 {
            publish.tags = vec!["rare".to_owned()];
        }
        let published = world.publish(&publish).await;
        // Twelve of them in the 4 ms that ids know.
        facts.push(attempt(1, published.delivery, 1, 200, at(8_000 + number / 12 * 4)));
        all.push(published.id);
        if number % 320 == 5 {
            rare.push(published.id);
        }
    }
    world.facts(facts).await;
    running.caught_up().await;
    let history = &running.history;
    assert_eq!(rare.len(), 3);
    for (tag, expected) in [(Some("rare"), &rare), (None, &all)] {
        let message = MessageFilter { tag: tag.map(str::to_owned), ..MessageFilter::default() };
        let limits: &[usize] = if tag.is_some() { &[1, 2, 250] } else { &[17, 250] };
        pages_of(limits, expected, async |window: &Window| {
            Ok(history.messages(application(1), &message, window).await?.map(|row| row.id))
        })
        .await;
        let filter = DeliveryFilter { message: message.clone(), ..DeliveryFilter::default() };
        pages_of(limits, expected, async |window: &Window| {
            Ok(history.deliveries_of_endpoint(endpoint(1), &filter, window).await?.map(|row| row.message.id))
        })
        .await;
        let filter = AttemptFilter { message, ..AttemptFilter::default() };
        pages_of(limits, expected, async |window: &Window| {
            Ok(history.attempts_of_endpoint(endpoint(1), &filter, window).await?.map(|row| row.message.id))
        })
        .await;
    }
    running.end(&world).await;
}
