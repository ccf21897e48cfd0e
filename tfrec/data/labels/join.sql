-- Joins the feedback log to training examples, in one statement that DuckDB and (through sqlglot) Spark both run.
--
-- The log is read in two stages: as the last window left it (stage 'before': its rows, its `now`) and as it is at the end of this
-- window (stage 'after'). The same rules apply to both. An example is emitted when it is settled in 'after' and was not in
-- 'before', so each example is emitted once, and windows may be cut anywhere.
--
-- Input relations:
--   impressions, outcomes   the two tables of the log, well-formed rows only
--   bounds                  kind, writer, after_seq, upto_seq: the window's rows have after_seq < seq <= upto_seq
--   catalogue               item
--   rewards                 action, since, until, weight, reads, full, neutral, scale, half_life, converts: see rewards.py
--   lengths                 action, item, length
--   settings                one row: attribution, matured_from, now, since, every_item, ceiling, cap, repeat_seconds, minute_limit
-- `since` is what horizon.sql gives: older rows cannot change what is emitted. Where `every_item` holds, the catalogue does not
-- matter: examples of all items are emitted, and whoever reads them applies the catalogue of then.
-- Output rows: examples (fate 'example'), then a row for each other fate and action with the number of its log rows.
WITH impression_arrivals AS (
  SELECT i.request_id, i.item, i."user", i.time, i."position", i.writer, i.seq, i.seq > b.after_seq AS is_new
  FROM impressions AS i
  JOIN bounds AS b ON b.kind = 'impressions' AND b.writer = i.writer AND i.seq <= b.upto_seq
),
-- An outcome that claims to be later than now counts as now: one wrong clock must not make everything else seem long past. Rows
-- from before this window arrived before its beginning at the latest, so that is their now, in both stages. The time of such rows
-- may change from window to window, so they are matched only with the request that they name.
outcome_arrivals AS (
  SELECT
    o.event_id, o.request_id, o.item, o."user", o.action, o.value, o.writer, o.seq,
    o.seq > b.after_seq AS is_new,
    LEAST(o.time, CASE WHEN o.seq > b.after_seq THEN s.now ELSE s.matured_from END) AS time,
    o.time > CASE WHEN o.seq > b.after_seq THEN s.now ELSE s.matured_from END AS is_ahead
  FROM outcomes AS o
  CROSS JOIN settings AS s
  JOIN bounds AS b ON b.kind = 'outcomes' AND b.writer = o.writer AND o.seq <= b.upto_seq
),
-- Of several copies of a row the first to arrive is kept, so a replay never looks new.
shown AS (
  SELECT *
  FROM (
    SELECT
      i.*,
      s.every_item OR c.item IS NOT NULL AS is_known,
      ROW_NUMBER() OVER (PARTITION BY i.request_id, i.item ORDER BY i.is_new, i.time, i.writer, i.seq, i."position") AS copy
    FROM impression_arrivals AS i
    CROSS JOIN settings AS s
    LEFT JOIN catalogue AS c ON c.item = i.item
    WHERE i.time >= s.since
  ) AS numbered
  WHERE copy = 1
),
sizes AS (
  SELECT request_id, COUNT(*) AS slate_size FROM shown GROUP BY request_id
),
staged AS (
  SELECT 'after' AS stage, o.* FROM outcome_arrivals AS o CROSS JOIN settings AS s WHERE o.time >= s.since
  UNION ALL
  SELECT 'before' AS stage, o.* FROM outcome_arrivals AS o CROSS JOIN settings AS s WHERE o.time >= s.since AND NOT o.is_new
),
-- Event ids are unique only per user: two users may use the same one.
copies AS (
  SELECT
    staged.*,
    ROW_NUMBER() OVER (PARTITION BY stage, "user", event_id ORDER BY is_new, time, writer, seq) AS copy
  FROM staged
),
-- Noise is an action that is repeated within a session on the same item and request (or without a request), and more actions in a
-- minute than a person can do. Actions whose value counts (seconds watched) may repeat, as their values add up.
judged AS (
  SELECT
    o.*,
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
    COUNT(*) OVER (PARTITION BY o.stage, o."user", FLOOR(o.time / 60)) > s.minute_limit
    OR (
      COALESCE(r.reads, 'nothing') IN ('nothing', 'rating')
      AND COALESCE(
        o.time - LAG(o.time) OVER (
          PARTITION BY o.stage, o."user", o.item, o.action, o.request_id ORDER BY o.time, o.event_id
        ) < s.repeat_seconds,
        FALSE
      )
    ) AS is_noise
  FROM copies AS o
  CROSS JOIN settings AS s
  LEFT JOIN rewards AS r ON r.action = o.action AND o.time >= r.since AND o.time < r.until
  LEFT JOIN lengths AS l ON l.action = o.action AND l.item = o.item
  LEFT JOIN catalogue AS c ON c.item = o.item
  WHERE o.copy = 1
),
acts AS (
  SELECT * FROM judged WHERE is_known AND NOT is_noise AND gain <> 0
),
-- An outcome belongs to the request that it names or, when it names none, to the latest request that showed its user the item.
matched AS (
  SELECT
    a.stage, a."user", a.event_id, a.time, a.action, a.gain, a.half_life, a.converts, a.is_new, i.request_id, i.item,
    i.time AS shown_time
  FROM acts AS a
  CROSS JOIN settings AS s
  JOIN shown AS i ON i.request_id = a.request_id AND i.item = a.item
  WHERE a.time >= i.time AND a.time <= i.time + s.attribution AND (a.stage = 'after' OR NOT i.is_new)
  UNION ALL
  SELECT
    a.stage, a."user", a.event_id, a.time, a.action, a.gain, a.half_life, a.converts, a.is_new, i.request_id, i.item,
    i.time AS shown_time
  FROM acts AS a
  CROSS JOIN settings AS s
  JOIN shown AS i ON i."user" = a."user" AND i.item = a.item
  WHERE a.request_id IS NULL AND NOT a.is_ahead
    AND a.time > i.time AND a.time <= i.time + s.attribution AND (a.stage = 'after' OR NOT i.is_new)
),
credited AS (
  SELECT *
  FROM (
    SELECT
      matched.*,
      ROW_NUMBER() OVER (PARTITION BY stage, "user", event_id ORDER BY shown_time DESC, request_id) AS choice
    FROM matched
  ) AS numbered
  WHERE choice = 1
),
-- The later an action after its item was shown, the less it says about the choice to show it.
discounted AS (
  SELECT
    stage, request_id, item, "user", event_id, time, action, converts,
    gain * COALESCE(POWER(0.5, (time - shown_time) / half_life), 1) AS gain
  FROM credited
),
-- The reward grows action by action. Once it reaches the ceiling nothing can increase it, and the label is final. Where an action
-- can have a negative gain the ceiling is infinite: such a label is final only when its attribution window has closed.
running AS (
  SELECT
    discounted.*,
    SUM(gain) OVER (
      PARTITION BY stage, request_id, item ORDER BY time, event_id, "user" ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS so_far
  FROM discounted
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
-- A label's action and time are those of the outcome that counts most in the direction of the sum.
labels AS (
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
labelled AS (
  SELECT
    i.request_id,
    i.item,
    i.writer,
    i.seq,
    i."position",
    i.time AS shown_time,
    COALESCE(l.reward, 0) AS reward,
    COALESCE(l.converted, FALSE) AS converted,
    l.action,
    l.time,
    l.positive_time,
    l.positive_action,
    i.time + s.attribution < s.now OR COALESCE(l.is_final, FALSE) AS is_settled,
    NOT i.is_new AND (i.time + s.attribution < s.matured_from OR COALESCE(e.is_final, FALSE)) AS was_settled
  FROM shown AS i
  CROSS JOIN settings AS s
  LEFT JOIN labels AS l ON l.stage = 'after' AND l.request_id = i.request_id AND l.item = i.item
  LEFT JOIN labels AS e ON e.stage = 'before' AND e.request_id = i.request_id AND e.item = i.item
  WHERE i.is_known
),
uncredited AS (
  SELECT a.*
  FROM acts AS a
  LEFT JOIN credited AS c ON c.stage = a.stage AND c."user" = a."user" AND c.event_id = a.event_id
  WHERE c.event_id IS NULL
),
fates AS (
  SELECT 'logged' AS fate, action FROM judged WHERE stage = 'after' AND is_new
  UNION ALL
  SELECT 'duplicate', NULL FROM copies WHERE stage = 'after' AND is_new AND copy > 1
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
  JOIN labelled AS p ON p.request_id = c.request_id AND p.item = c.item
  WHERE c.stage = 'after' AND c.is_new AND p.was_settled
  UNION ALL
  SELECT 'immature', NULL FROM labelled WHERE NOT is_settled
)
SELECT
  'example' AS fate,
  CAST(1 AS BIGINT) AS log_rows,
  CONCAT('slate:', p.request_id, '/', p.item) AS example_id,
  'slate' AS source,
  p.request_id,
  i."user",
  i.query,
  p.item,
  COALESCE(p.time, p.shown_time) AS time,
  p.action,
  GREATEST(LEAST(p.reward, s.cap), -s.cap) AS reward,
  p.converted,
  p.shown_time,
  p."position",
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
  p.positive_time,
  p.positive_action
FROM labelled AS p
CROSS JOIN settings AS s
JOIN sizes AS z ON z.request_id = p.request_id
JOIN impressions AS i ON i.writer = p.writer AND i.seq = p.seq AND i.item = p.item AND i."position" = p."position"
WHERE p.is_settled AND NOT p.was_settled
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
