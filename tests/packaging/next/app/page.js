"use client";

import { useEffect, useState } from "react";
import { answer } from "../app.js";

export default function Page() {
  const [text, setText] = useState("");
  useEffect(() => {
    answer().then(setText, (e) => setText(`failed: ${e.code} ${e.message}`));
  }, []);
  return <p>{text}</p>;
}
