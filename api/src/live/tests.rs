use super::*;

const ADA: UserId = UserId(1);

fn item(position: i64) -> Arc<LiveEvent> {
    Arc::new(LiveEvent { name: None, position: Position(position), json: "{}".to_owned() })
}

fn hand(live: &Live, position: i64) {
    live.hand_over([(item(position), vec![ADA])], &[], Position(position));
}

#[test]
fn a_member_is_handed_what_is_new_above_where_it_joined() {
    let live = Live::within(usize::MAX / 8);
    live.begin_look();
    hand(&live, 3);
    let mut place = live.join(ADA).unwrap();
    assert_eq!(place.position, Position(3));
    live.begin_look();
    hand(&live, 4);
    assert!(matches!(place.handed.try_recv(), Ok(Handed::Event(item)) if item.position.0 == 4));
    assert_eq!(place.live_position(), Position(4));
}

#[test]
fn whoever_joins_during_a_look_is_told_to_read_and_handed_nothing_of_it() {
    let live = Live::within(usize::MAX / 8);
    let mut before = live.join(ADA).unwrap();
    live.begin_look();
    let mut during = live.join(ADA).unwrap();
    hand(&live, 5);
    assert!(matches!(before.handed.try_recv(), Ok(Handed::Event(_))));
    assert!(matches!(during.handed.try_recv(), Ok(Handed::ReadTo(Position(5)))));
    assert!(during.handed.try_recv().is_err());
}

#[test]
fn who_does_not_keep_up_is_cut_off_and_nobody_else() {
    let live = Live::within(usize::MAX / 8);
    let mut slow = live.join(ADA).unwrap();
    let mut fast = live.join(ADA).unwrap();
    let more = i64::try_from(WAITING_MAX).unwrap() + 1;
    for position in 1..=more {
        live.begin_look();
        hand(&live, position);
        assert!(fast.handed.try_recv().is_ok());
    }
    for _ in 0..WAITING_MAX {
        assert!(slow.handed.try_recv().is_ok());
    }
    assert_eq!(slow.handed.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
    assert_eq!(fast.handed.try_recv().unwrap_err(), mpsc::error::TryRecvError::Empty);
}

#[test]
fn there_are_so_many_places_and_one_that_is_given_up_is_free() {
    let live = Live::within(usize::MAX / 8);
    let mut places: Vec<Place> = (0..STREAMS_MAX).map(|_| live.join(ADA).unwrap()).collect();
    assert_eq!(live.join(ADA).unwrap_err(), NoStream::Full(STREAMS_MAX));
    places.pop();
    assert!(live.join(ADA).is_ok());
    drop(places);
    assert!(live.state().members.is_empty());
}

#[test]
fn stopping_ends_every_stream_and_opens_no_more() {
    let live = Live::within(usize::MAX / 8);
    let mut place = live.join(ADA).unwrap();
    live.stop();
    assert_eq!(place.handed.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
    assert_eq!(live.join(ADA).unwrap_err(), NoStream::Stopping);
}
