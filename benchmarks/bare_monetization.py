"""The monetization jobs as people write them by hand: what being safe is measured against."""

from __future__ import annotations

NOW = "TIMESTAMPTZ '2025-11-02 09:00Z'"

COUNTED = """
SELECT u.id AS user_id, coalesce(s.total, 0) AS total,
       coalesce(s.sl_yes, 0) AS sl_yes, coalesce(s.sl_no, 0) AS sl_no,
       coalesce(s.pt_yes, 0) AS pt_yes, coalesce(s.pt_no, 0) AS pt_no,
       coalesce(a.yes, 0) AS abort_yes, coalesce(a.no, 0) AS abort_no
  FROM users u
  LEFT JOIN (SELECT t.user_id, count(*) AS total,
                    count(*) FILTER (WHERE s.stop_loss_honored) AS sl_yes,
                    count(*) FILTER (WHERE NOT s.stop_loss_honored) AS sl_no,
                    count(*) FILTER (WHERE s.profit_target_honored) AS pt_yes,
                    count(*) FILTER (WHERE NOT s.profit_target_honored) AS pt_no
               FROM shots s JOIN aims a ON a.id = s.aim_id JOIN targets t ON t.id = a.target_id
              GROUP BY t.user_id) AS s ON s.user_id = u.id
  LEFT JOIN (SELECT user_id, count(*) FILTER (WHERE abort_triggered) AS yes,
                    count(*) FILTER (WHERE abort_trigger IS NOT NULL
                                       AND NOT abort_triggered) AS no
               FROM targets GROUP BY user_id) AS a ON a.user_id = u.id
"""

ROLLUP = f"""
INSERT INTO user_discipline_stats (user_id, total_shots, stop_loss_honored_count,
    stop_loss_ignored_count, profit_target_honored_count, profit_target_ignored_count,
    abort_trigger_honored_count, abort_trigger_ignored_count, updated_at)
SELECT counted.*, {NOW} FROM ({COUNTED}) AS counted
    ON CONFLICT (user_id) DO UPDATE
   SET total_shots = excluded.total_shots,
       stop_loss_honored_count = excluded.stop_loss_honored_count,
       stop_loss_ignored_count = excluded.stop_loss_ignored_count,
       profit_target_honored_count = excluded.profit_target_honored_count,
       profit_target_ignored_count = excluded.profit_target_ignored_count,
       abort_trigger_honored_count = excluded.abort_trigger_honored_count,
       abort_trigger_ignored_count = excluded.abort_trigger_ignored_count,
       updated_at = excluded.updated_at
"""

COMPARED = f"""
SELECT count(*) FROM ({COUNTED}) AS c
  LEFT JOIN user_discipline_stats d ON d.user_id = c.user_id
 WHERE (d.total_shots, d.stop_loss_honored_count, d.stop_loss_ignored_count,
        d.profit_target_honored_count, d.profit_target_ignored_count,
        d.abort_trigger_honored_count, d.abort_trigger_ignored_count)
       IS DISTINCT FROM (c.total, c.sl_yes, c.sl_no, c.pt_yes, c.pt_no, c.abort_yes, c.abort_no)
"""

EXPIRE = f"""
UPDATE users SET tier = 'free', tier_source = 'default', tier_expires_at = NULL, updated_at = {NOW}
 WHERE tier_expires_at < {NOW} AND tier <> 'free'
"""

DELETE_BATCH = f"""
DELETE FROM promo_redemptions WHERE id IN (
    SELECT id FROM promo_redemptions WHERE redeemed_at < {NOW} - INTERVAL '365 days' LIMIT 10000)
"""
