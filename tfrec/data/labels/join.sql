-- Joins the feedback log to training examples, in one statement that DuckDB and (through sqlglot) Spark both run.
--
-- The log is read in two stages: as the last window left it (stage 'before': its rows, its `now`) and as it is at the end of this
-- window (stage 'after'). The same rules apply to both. An example is emitted when it is settled in 'after' and was not in
-- 'before', so each example is emitted once, and windows may be cut anywhere.
--
-- Input relations:
--   impressions, outcomes   the two tables of the log: well-formed rows, and of impressions none before `since`
--   bounds                  kind, writer, after_seq, upto_seq: the window's rows have after_seq < seq <= upto_seq
--   catalogue               item
--   rewards                 action, since, until, weight, reads, full, neutral, scale, half_life, converts: see rewards.py
--   lengths                 action, item, length
--   settings                one row: attribution, matured_from, now, since, every_item, ceiling, cap, repeat_seconds, minute_limit
-- `since` is what horizon.sql gives: older rows cannot change what is emitted. Where `every_item` holds, the catalogue does not
-- matter: examples of all items are emitted, and whoever reads them applies the catalogue of then.
-- For speed: each FROM begins with the relation that may be large and joins smaller ones to it, in the order in which they are to be
-- built; the wide columns of impressions are read at the very end; and rows are sorted (windows) only where a hash has told that
-- several of them share a key, which is seldom. Two keys may share a hash; that costs a little time and changes nothing.
-- Output rows: examples (fate 'example'), then a row for each other fate and action with the number of its log rows.
WITH impression_arrivals AS (
  SELECT
    i.request_id, i.item, i."user", i.time, i."position", i.writer, i.seq, i.seq > b.after_seq AS is_new,
    s.every_item OR c.item IS NOT NULL AS is_known,
    HASH(i.request_id, i.item) AS of_item
  FROM impressions AS i
  CROSS JOIN settings AS s
  JOIN bounds AS b ON b.kind = 'impressions' AND b.writer = i.writer AND i.seq <= b.upto_seq
  LEFT JOIN catalogue AS c ON c.item = i.item
),
-- An outcome that claims to be later than now counts as now: one wrong clock must not make everything else seem long past. Rows
-- from before this window arrived before its beginning at the latest, so that is their now, in both stages. The time of such rows
-- may change from window to window, so they are matched only with the request that they name.
outcome_arrivals AS (
  SELECT *, HASH("user", event_id) AS of_event
  FROM (
    SELECT
      o.event_id, o.request_id, o.item, o."user", o.action, o.value, o.writer, o.seq,
      o.seq > b.after_seq AS is_new,
      LEAST(o.time, CASE WHEN o.seq > b.after_seq THEN s.now ELSE s.matured_from END) AS time,
      o.time > CASE WHEN o.seq > b.after_seq THEN s.now ELSE s.matured_from END AS is_ahead,
      s.since
    FROM outcomes AS o
    CROSS JOIN settings AS s
    JOIN bounds AS b ON b.kind = 'outcomes' AND b.writer = o.writer AND o.seq <= b.upto_seq
  ) AS timed
  WHERE time >= since
),
-- Of several copies of a row the first to arrive is kept, so a replay never looks new.
copied_items AS (
  SELECT of_item FROM impression_arrivals GROUP BY of_item HAVING COUNT(*) > 1
),
first_items AS (
  SELECT *
  FROM (
    SELECT
      i.*,
      ROW_NUMBER() OVER (PARTITION BY i.request_id, i.item ORDER BY i.is_new, i.time, i.writer, i.seq, i."position") AS copy
    FROM impression_arrivals AS i
    JOIN copied_items AS k ON k.of_item = i.of_item
  ) AS numbered
  WHERE copy = 1
),
shown AS (
  SELECT i.request_id, i.item, i."user", i.time, i.is_new, i.is_known
  FROM impression_arrivals AS i
  LEFT JOIN copied_items AS k ON k.of_item = i.of_item
  WHERE k.of_item IS NULL
  UNION ALL
  SELECT request_id, item, "user", time, is_new, is_known FROM first_items
),
sizes AS (
  SELECT request_id, COUNT(*) AS slate_size FROM shown GROUP BY request_id
),
copied_events AS (
  SELECT of_event FROM outcome_arrivals GROUP BY of_event HAVING COUNT(*) > 1
),
-- Event ids are unique only per user: two users may use the same one.
copies AS (
  SELECT
    o.*,
    ROW_NUMBER() OVER (PARTITION BY o."user", o.event_id ORDER BY o.is_new, o.time, o.writer, o.seq) AS copy
  FROM outcome_arrivals AS o
  JOIN copied_events AS k ON k.of_event = o.of_event
),
told AS (
  SELECT o.event_id, o.request_id, o.item, o."user", o.action, o.value, o.time, o.is_new, o.is_ahead
  FROM outcome_arrivals AS o
  LEFT JOIN copied_events AS k ON k.of_event = o.of_event
  WHERE k.of_event IS NULL
  UNION ALL
  SELECT event_id, request_id, item, "user", action, value, time, is_new, is_ahead FROM copies WHERE copy = 1
),
-- The first copy of an old row is old: what is kept in 'before' is what is kept in 'after' and is not new.
staged AS (
  SELECT 'after' AS stage, told.*, HASH("user", item, action, request_id) AS of_action FROM told
  UNION ALL
  SELECT 'before' AS stage, told.*, HASH("user", item, action, request_id) AS of_action FROM told WHERE NOT is_new
),
-- Noise is an action that is repeated within a session on the same item and request (or without a request), and more actions in a
-- minute than a person can do. Actions whose value counts (seconds watched) may repeat, as their values add up.
repeated_actions AS (
  SELECT stage, of_action FROM staged GROUP BY stage, of_action HAVING COUNT(*) > 1
),
repeats AS (
  SELECT g.stage, g."user", g.event_id
  FROM (
    SELECT
      o.stage, o."user", o.event_id,
      o.time - LAG(o.time) OVER (
        PARTITION BY o.stage, o."user", o.item, o.action, o.request_id ORDER BY o.time, o.event_id
      ) AS seconds
    FROM staged AS o
    JOIN repeated_actions AS k ON k.stage = o.stage AND k.of_action = o.of_action
  ) AS g
  CROSS JOIN settings AS s
  WHERE g.seconds < s.repeat_seconds
),
hurries AS (
  SELECT g.stage, g."user", g.minute
  FROM (SELECT stage, "user", FLOOR(time / 60) AS minute, COUNT(*) AS acts FROM staged GROUP BY stage, "user", FLOOR(time / 60)) AS g
  CROSS JOIN settings AS s
  WHERE g.acts > s.minute_limit
),
judged AS (
  SELECT
    o.stage, o.event_id, o.request_id, o.item, o."user", o.action, o.time, o.is_new, o.is_ahead,
    s.every_item OR c.item IS NOT NULL AS is_known,
    COALESCE(
      r.weight * CASE r.reads
        WHEN 'value' THEN o.value
        WHEN 'completion' THEN
          CASE WHEN COALESCE(l.length, r.full) IS NULL THEN 0 ELSE GREATEST(LEAST(o.value / COALESCE(l.length, r.full), 1), 0) END
        WHEN 'rating' THEN (o.value - r.neutral) / r.scale
        ELSE 1
      END,
      0
    ) AS gain,
    r.half_life,
    COALESCE(r.converts, FALSE) AS converts,
    h."user" IS NOT NULL OR (COALESCE(r.reads, 'nothing') IN ('nothing', 'rating') AND g."user" IS NOT NULL) AS is_noise
  FROM staged AS o
  CROSS JOIN settings AS s
  LEFT JOIN rewards AS r ON r.action = o.action AND o.time >= r.since AND o.time < r.until
  LEFT JOIN lengths AS l ON l.action = o.action AND l.item = o.item
  LEFT JOIN catalogue AS c ON c.item = o.item
  LEFT JOIN hurries AS h ON h.stage = o.stage AND h."user" = o."user" AND h.minute = FLOOR(o.time / 60)
  LEFT JOIN repeats AS g ON g.stage = o.stage AND g."user" = o."user" AND g.event_id = o.event_id
),
acts AS (
  SELECT * FROM judged WHERE is_known AND NOT is_noise AND gain <> 0
),
-- An outcome belongs to the request that it names or, when it names none, to the latest request that showed its user the item.
credited AS (
  SELECT
    a.stage, a."user", a.event_id, a.time, a.action, a.gain, a.half_life, a.converts, a.is_new, i.request_id, i.item,
    i.time AS shown_time, i.is_new AS is_shown_new
  FROM shown AS i
  CROSS JOIN settings AS s
  JOIN acts AS a ON a.request_id = i.request_id AND a.item = i.item
  WHERE a.time >= i.time AND a.time <= i.time + s.attribution AND (a.stage = 'after' OR NOT i.is_new)
  UNION ALL
  SELECT
    stage, "user", event_id, time, action, gain, half_life, converts, is_new, request_id, item, shown_time, is_shown_new
  FROM (
    SELECT
      a.stage, a."user", a.event_id, a.time, a.action, a.gain, a.half_life, a.converts, a.is_new, i.request_id, i.item,
      i.time AS shown_time, i.is_new AS is_shown_new,
      ROW_NUMBER() OVER (PARTITION BY a.stage, a."user", a.event_id ORDER BY i.time DESC, i.request_id) AS choice
    FROM shown AS i
    CROSS JOIN settings AS s
    JOIN acts AS a ON a."user" = i."user" AND a.item = i.item
    WHERE a.request_id IS NULL AND NOT a.is_ahead
      AND a.time > i.time AND a.time <= i.time + s.attribution AND (a.stage = 'after' OR NOT i.is_new)
  ) AS numbered
  WHERE choice = 1
),
-- The later an action after its item was shown, the less it says about the choice to show it.
discounted AS (
  SELECT
    stage, request_id, item, "user", event_id, time, action, converts,
    gain * COALESCE(POWER(0.5, (time - shown_time) / half_life), 1) AS gain,
    HASH(request_id, item) AS of_item
  FROM credited
),
several AS (
  SELECT stage, of_item FROM discounted GROUP BY stage, of_item HAVING COUNT(*) > 1
),
-- The reward grows action by action. Once it reaches the ceiling nothing can increase it, and the label is final. Where an action
-- can have a negative gain the ceiling is infinite: such a label is final only when its attribution window has closed.
running AS (
  SELECT
    d.*,
    SUM(d.gain) OVER (
      PARTITION BY d.stage, d.request_id, d.item ORDER BY d.time, d.event_id, d."user"
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS so_far
  FROM discounted AS d
  JOIN several AS k ON k.stage = d.stage AND k.of_item = d.of_item
),
counted AS (
  SELECT
    *,
    ROW_NUMBER() OVER (PARTITION BY stage, request_id, item ORDER BY gain DESC, time, event_id, "user") AS strength,
    ROW_NUMBER() OVER (PARTITION BY stage, request_id, item ORDER BY gain, time, event_id, "user") AS weakness,
    ROW_NUMBER() OVER (
      PARTITION BY stage, request_id, item ORDER BY CASE WHEN gain > 0 THEN 0 ELSE 1 END, time, action, event_id, "user"
    ) AS earliness
  FROM (
    SELECT
      running.*,
      MAX(so_far) OVER (
        PARTITION BY stage, request_id, item ORDER BY time, event_id, "user" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
      ) AS reached
    FROM running
  ) AS steps
  CROSS JOIN (SELECT ceiling FROM settings) AS s
  WHERE reached IS NULL OR reached < s.ceiling
),
-- A label's action and time are those of the outcome that counts most in the direction of the sum; most labels have one outcome.
labels AS (
  SELECT
    d.stage, d.request_id, d.item, d.gain AS reward, d.gain >= s.ceiling AS is_final, d.converts AS converted, d.action, d.time,
    CASE WHEN d.gain > 0 THEN d.time END AS positive_time,
    CASE WHEN d.gain > 0 THEN d.action END AS positive_action
  FROM discounted AS d
  CROSS JOIN settings AS s
  LEFT JOIN several AS k ON k.stage = d.stage AND k.of_item = d.of_item
  WHERE k.of_item IS NULL
  UNION ALL
  SELECT
    stage,
    request_id,
    item,
    SUM(gain) AS reward,
    MAX(so_far) >= MAX(ceiling) AS is_final,
    MAX(CASE WHEN converts THEN 1 ELSE 0 END) = 1 AS converted,
    CASE WHEN SUM(gain) < 0
      THEN MAX(CASE WHEN weakness = 1 THEN action END)
      ELSE MAX(CASE WHEN strength = 1 THEN action END)
    END AS action,
    CASE WHEN SUM(gain) < 0
      THEN MAX(CASE WHEN weakness = 1 THEN time END)
      ELSE MAX(CASE WHEN strength = 1 THEN time END)
    END AS time,
    MAX(CASE WHEN earliness = 1 AND gain > 0 THEN time END) AS positive_time,
    MAX(CASE WHEN earliness = 1 AND gain > 0 THEN action END) AS positive_action
  FROM counted
  GROUP BY stage, request_id, item
),
uncredited AS (
  SELECT a.*
  FROM acts AS a
  LEFT JOIN credited AS c ON c.stage = a.stage AND c."user" = a."user" AND c.event_id = a.event_id
  WHERE c.event_id IS NULL
),
fates AS (
  SELECT 'logged' AS fate, action FROM told WHERE is_new
  UNION ALL
  SELECT 'duplicate', NULL FROM copies WHERE is_new AND copy > 1
  UNION ALL
  SELECT 'unknown_item', NULL FROM judged WHERE stage = 'after' AND is_new AND NOT is_known
  UNION ALL
  SELECT 'unknown_item', NULL FROM shown WHERE is_new AND NOT is_known
  UNION ALL
  SELECT 'noise', NULL FROM judged WHERE stage = 'after' AND is_new AND is_known AND is_noise
  UNION ALL
  SELECT 'unrewarded', NULL FROM judged WHERE stage = 'after' AND is_new AND is_known AND NOT is_noise AND gain = 0
  UNION ALL
  SELECT 'unmatched', NULL FROM uncredited WHERE stage = 'after' AND is_new AND request_id IS NOT NULL
  UNION ALL
  SELECT 'late', NULL
  FROM credited AS c
  CROSS JOIN settings AS s
  LEFT JOIN labels AS e ON e.stage = 'before' AND e.request_id = c.request_id AND e.item = c.item
  WHERE c.stage = 'after' AND c.is_new AND NOT c.is_shown_new
    AND (c.shown_time + s.attribution < s.matured_from OR COALESCE(e.is_final, FALSE))
  UNION ALL
  SELECT 'immature', NULL
  FROM shown AS i
  CROSS JOIN settings AS s
  LEFT JOIN labels AS l ON l.stage = 'after' AND l.request_id = i.request_id AND l.item = i.item
  WHERE i.is_known AND i.time + s.attribution >= s.now AND NOT COALESCE(l.is_final, FALSE)
)
SELECT
  'example' AS fate,
  CAST(1 AS BIGINT) AS log_rows,
  CONCAT('slate:', i.request_id, '/', i.item) AS example_id,
  'slate' AS source,
  i.request_id,
  i."user",
  i.query,
  i.item,
  COALESCE(l.time, i.time) AS time,
  l.action,
  GREATEST(LEAST(COALESCE(l.reward, 0), s.cap), -s.cap) AS reward,
  COALESCE(l.converted, FALSE) AS converted,
  i.time AS shown_time,
  i."position",
  z.slate_size,
  i.log_propensity,
  i.policy,
  i.model_version,
  i.history,
  i.history_action,
  i.history_time,
  i.exclude,
  i.allow_tags,
  i.deny_tags,
  i.prior_items,
  i.prior_log_p,
  i.context,
  l.positive_time,
  l.positive_action
FROM impressions AS i
CROSS JOIN settings AS s
JOIN bounds AS b ON b.kind = 'impressions' AND b.writer = i.writer AND i.seq <= b.upto_seq
JOIN sizes AS z ON z.request_id = i.request_id
LEFT JOIN catalogue AS c ON c.item = i.item
LEFT JOIN copied_items AS k ON k.of_item = HASH(i.request_id, i.item)
LEFT JOIN first_items AS f
  ON f.request_id = i.request_id AND f.item = i.item AND f.writer = i.writer AND f.seq = i.seq AND f."position" = i."position"
LEFT JOIN labels AS l ON l.stage = 'after' AND l.request_id = i.request_id AND l.item = i.item
LEFT JOIN labels AS e ON e.stage = 'before' AND e.request_id = i.request_id AND e.item = i.item
WHERE (s.every_item OR c.item IS NOT NULL)
  AND (k.of_item IS NULL OR f.item IS NOT NULL)
  AND (i.time + s.attribution < s.now OR COALESCE(l.is_final, FALSE))
  AND NOT (i.seq <= b.after_seq AND (i.time + s.attribution < s.matured_from OR COALESCE(e.is_final, FALSE)))
UNION ALL
SELECT
  'example', CAST(1 AS BIGINT), CONCAT('organic:', o."user", '/', o.event_id), 'organic',
  NULL, o."user", '', o.item, o.time, o.action, GREATEST(LEAST(o.gain, s.cap), -s.cap), o.converts,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  CASE WHEN o.gain > 0 THEN o.time END, CASE WHEN o.gain > 0 THEN o.action END
FROM uncredited AS o
CROSS JOIN settings AS s
LEFT JOIN uncredited AS e ON e.stage = 'before' AND e."user" = o."user" AND e.event_id = o.event_id
WHERE o.stage = 'after' AND o.request_id IS NULL AND e.event_id IS NULL
UNION ALL
SELECT
  fate, COUNT(*), NULL, NULL, NULL, NULL, NULL, NULL, NULL, action, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM fates
GROUP BY fate, action
