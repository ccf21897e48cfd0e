-- The earliest time that matters to a window: older rows cannot change what join.sql emits. Their labels were settled before, and
-- no new row is near them.
--
-- Input relations: impressions, outcomes, bounds and settings, as for join.sql (of settings: attribution, matured_from,
-- repeat_seconds). Output: one row, since.
SELECT
  LEAST(
    s.matured_from,
    COALESCE(
      (SELECT MIN(i.time) FROM impressions AS i
       JOIN bounds AS b ON b.kind = 'impressions' AND b.writer = i.writer AND i.seq > b.after_seq AND i.seq <= b.upto_seq),
      s.matured_from
    ),
    COALESCE(
      (SELECT MIN(o.time) FROM outcomes AS o
       JOIN bounds AS b ON b.kind = 'outcomes' AND b.writer = o.writer AND o.seq > b.after_seq AND o.seq <= b.upto_seq),
      s.matured_from
    )
  ) - s.attribution - s.repeat_seconds AS since
FROM settings AS s
