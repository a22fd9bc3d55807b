"""What the Analyse page reads: judged pairs, margins, external scores, video statistics."""
