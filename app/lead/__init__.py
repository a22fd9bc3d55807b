"""Lead page: campaigns, people, progress, agreement, adjudication, import and export."""
