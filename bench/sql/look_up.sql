SELECT r.body, r.expires_on, o.fingerprint IS NOT NULL AS known
FROM license l
JOIN revision r ON r.license_id = l.license_id AND r.revision = l.revision
LEFT JOIN operation o ON o.license_id = l.license_id AND o.fingerprint = $2
WHERE l.license_id = $1
